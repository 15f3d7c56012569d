"""What the benchmarks share: intervals, results files, random text models, ways of capturing, the table."""
