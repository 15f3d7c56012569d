"""Which heads show what words are about: questions of one's own, asked and judged; named sets of heads."""
