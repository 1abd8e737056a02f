"""The critic: quality without a reference, distilled from R_q, and how it is trained."""
