"""What a device keeps on its disk: the journal of steps, its ledger, the history of its runs."""
