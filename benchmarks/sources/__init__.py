"""Where data sets come from: cards and folders, scikit-learn, made ones, files of the caller's, OpenML; a file for each."""
