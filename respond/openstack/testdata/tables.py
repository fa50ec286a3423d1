# Makes Neutron's tables in an empty SQLite file, which its migrations cannot
# (they alter constraints).
import sys

import sqlalchemy
from neutron.db.migration.models import head

head.get_metadata().create_all(sqlalchemy.create_engine("sqlite:///" + sys.argv[1]))
