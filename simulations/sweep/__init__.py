"""Many runs of one plan with keys varied: in parallel, resumable, and with what such a search costs in privacy."""
