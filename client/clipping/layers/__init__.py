"""One rule a layer. `base` says what a rule is, and how to add one."""
