"""What answers a request, HTTP aside: admission, models in memory, batching, the analyzer."""
