"""The commands around a bundle that is made: keys, signatures, verification, the frozen installer."""
