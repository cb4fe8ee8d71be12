"""Speed, beside other implementations."""
