"""Networks of others: converting, freezing, grouping their parameters."""
