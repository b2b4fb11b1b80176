"""The paper reproduced, and sweeps in general: runs the library, stores results, reads them."""
