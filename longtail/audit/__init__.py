"""The audit: what is wrong with the annotations themselves, and a list to work through.

AUDIT and the other names are those of its files in a run's directory.
"""

AUDIT = "audit.json"
AUDIT_FAILED = "audit_failed.json"
PAGE = "audit.html"
WORK_LIST = "worklist.json"
LABELLING = "worklist.xml"
CORRECTIONS = "corrections.csv"
