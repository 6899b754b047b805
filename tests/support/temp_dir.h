/*
 * temp_dir.h - a directory of a test's own below TMPDIR (or /tmp).
 *
 * Threads:   any thread.
 * Ownership: the caller removes what it made.
 * Errors:    what can't be made or removed ends the program with a message.
 */
#ifndef VARVE_TESTS_SUPPORT_TEMP_DIR_H
#define VARVE_TESTS_SUPPORT_TEMP_DIR_H

#define TEMP_DIR_BYTES 512u /* any path with its NUL */

/* Makes an empty directory that only this user may enter. */
void temp_dir_make(char ret_path[TEMP_DIR_BYTES]);

/* Removes the directory with everything below it. */
void temp_dir_remove(const char *path);

#endif
