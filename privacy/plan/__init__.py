"""The plan of a training: its keys, its text, its rules, its digest."""
