"""The whole way from SFT rows to answers, by hand with TRL and transformers and by `fairlead run`."""
