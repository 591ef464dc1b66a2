"""A node's cache of model versions, or one that several nodes share: each version once, whole or not there.

The init container of a pod (`python -m runtimes.cache`) brings the versions that the pod needs; the main
container mounts them read-only. Below the root of the cache:

    <digest>/               a version: its files and, written last, MARKER, which says that they were verified
    .incoming/<digest>/     a version on its way; what a killed container left is continued
    .locks/<digest>         held by the one that brings it; all others wait for it
    .locks/room             held while room is made
    .trash/                 what is being removed

Content-addressed: the digest names path, size and sha256 of every file, so that a folder can never have to
hold something else, and pods of all organizations share it.

Rules:

1. A version appears by one rename, after all of its files matched the manifest and reached the disk. The
   marker records size and modification time of each. From then on these are compared at every start, and
   nothing is hashed again; if one differs, the version is set aside, hashed, and what is wrong brought anew.
2. Whoever uses a version holds a shared lock on its marker for the life of its process, which the kernel ends
   with it. Whoever removes one holds the exclusive lock. Where a file system has no locks, nothing is
   removed.
3. Between the end of the init container and that lock, and while a container waits to be started again, a
   version is kept for GRACE_SECONDS after its last use. A main container that comes later still and finds its
   version gone reads it from the storage: slower, but it serves.
4. Nothing depends on the clocks of two nodes being equal.
"""
