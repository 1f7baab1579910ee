"""Collection rules: which pictures of a folder are copies of each other, and which of them a data set keeps."""

from p3mdata.curation.clusters import cluster
from p3mdata.curation.fingerprints import NEAR, Fingerprint, distances, fingerprint
from p3mdata.curation.folder import curate_folder, find_duplicates, group_ids, write_curation
from p3mdata.curation.results import Curation, Duplicates, Member
from p3mdata.curation.rules import Entry, Remark, Rules

__all__ = [
    "NEAR",
    "Curation",
    "Duplicates",
    "Entry",
    "Fingerprint",
    "Member",
    "Remark",
    "Rules",
    "cluster",
    "curate_folder",
    "distances",
    "find_duplicates",
    "fingerprint",
    "group_ids",
    "write_curation",
]
