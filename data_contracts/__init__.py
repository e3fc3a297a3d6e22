"""What data must look like: Arrow schemas, Great Expectations suites, quarantine."""
