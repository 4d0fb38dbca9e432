"""What users test with: an embedded server, rules that answer, recordings that replay."""
