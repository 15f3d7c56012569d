"""What the bench_*.py scripts share: intervals, results files, random text models, ways of capturing, the table."""
