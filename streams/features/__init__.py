"""What people manage: one folder for each feature, with its rules, its service, its SQL and its stage."""
