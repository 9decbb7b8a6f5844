"""The HTTP interface: requests in, answers and problem details out."""
