"""The `bract` command: it has one file for each verb, and no logic of its own."""
