"""SendAdmitted → claim → provider call → what came of it. At most once by itself."""
