"""The benchmarks, one file each, behind the protocol `suite.Suite`; `registry` knows them by name."""
