"""What is to be sent: a request's fields, its input, and what is put into an answer that runs; no I/O."""
