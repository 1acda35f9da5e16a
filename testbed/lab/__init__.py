"""Labs: what should be running against what runs, and everything done with a running lab."""
