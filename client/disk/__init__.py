"""Everything that a device keeps on its disk: the journal of protocol steps, its ledger, its pseudonym's secret."""
