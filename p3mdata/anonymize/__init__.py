"""One image through the paper's six steps and the proofs: bytes in, bytes and a result out, no file system."""
