"""The ledger of spent privacy on disk: a hash chain of entries that refuses to exceed the budget."""
