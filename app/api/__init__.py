"""The HTTP interface: requests in, responses and problem details out."""
