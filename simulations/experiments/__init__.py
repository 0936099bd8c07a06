"""The packaged plans. Each number in the README names its plan."""
