"""`alignvec data`: build, check, review and publish preference data."""
