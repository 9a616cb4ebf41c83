from tests.end_to_end.installation import installation as installation
