"""One rule for each kind of layer. `base` defines a rule and explains how to add one."""
