"""The audit trail: what was done, when, by whom and for which end user, so that nothing in it can be changed unseen.

The scripts that change something append a raw entry in the same step, densely numbered. One fenced sealer shapes the
entries into records, chains them with SHA-256 and signs checkpoints. Personal content lies apart and can be deleted.
It refuses to be a log: nothing here is sampled, dropped or written later than the change it tells of.
"""
