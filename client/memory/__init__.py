"""A device's state: the journal of steps and the ledger on its disk, and the history of runs in Flower's memory."""
