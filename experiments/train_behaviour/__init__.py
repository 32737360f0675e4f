"""Training of the behaviour policies that come with the package; needs the extra `behaviours`."""
