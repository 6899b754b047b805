/*
 * build_info.h - what this program is, for `varve version`, GET /version and the metrics.
 *
 * Threads:   any thread.
 * Ownership: all texts are static.
 * Errors:    none.
 */
#ifndef SERVICE_BUILD_INFO_H
#define SERVICE_BUILD_INFO_H

struct build_info {
    const char *version;    /* "0.1.0" */
    const char *build_type; /* "Release" */
    const char *compiler;   /* "gcc 12.2.0" */
    const char *sanitizers; /* "address,undefined"; "" without */
};

extern const struct build_info build_info;

/* A library that the program uses, with the version that it runs with; where a library
 * can't tell, the version that it was built with. */
struct library_version {
    const char *name; /* NULL ends the list */
    const char *version;
};

enum { LIBRARY_COUNT = 6 };

void build_info_libraries(struct library_version libraries[static LIBRARY_COUNT + 1]);

#endif
