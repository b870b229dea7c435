"""The studies: each makes the plan of one table of the paper."""
