/*
 * measure.h - what programs that measure share: options, the clock, figures, processes apart.
 *
 * A figure is one line of JSON on stdout; everything for people goes to stderr. A figure that rests
 * on a wrong byte is none: whatever goes wrong ends the program with a message and status 1.
 *
 * Threads:   any thread; options and measure_apart() before any other thread is there.
 * Ownership: nothing is handed out; texts are borrowed for the call.
 * Errors:    end the program.
 */
#ifndef VARVE_TESTS_BENCH_MEASURE_H
#define VARVE_TESTS_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One of `flag`, `number` and `text` is set: what --name sets, reads, or takes as it is. */
struct measure_option {
    const char *name;
    bool *flag;
    uint64_t *number; /* above 0 */
    const char **text;
};

/* Reads the command line; what is wrong with it ends the program with status 2. */
void measure_options(int argc, char *argv[], const struct measure_option options[], size_t n);

/* Whether the comma-separated `list` has `name`; NULL: everything. */
bool measure_wanted(const char *list, const char *name);

/* Prints "program: what: why" and ends the program. */
_Noreturn void measure_die(const char *what, const char *why);

/* Ends the program unless `condition` holds, in every build. */
static inline void measure_check(bool condition, const char *what, const char *why)
{
    if (!condition) {
        measure_die(what, why);
    }
}

uint64_t measure_now_ns(void);

/* Operations a second of `n` since `began_ns`. */
double measure_rate(uint64_t n, uint64_t began_ns);

struct figure {
    const char *group, *work, *peer, *unit;
    unsigned round; /* from 1 */
    double value;
    bool lower_is_better;
};

/* Prints one figure, flushed. `more` is NULL, or a format of further members: "\"threads\":%d". */
void figure_print(const struct figure *figure, const char *more, ...)
    __attribute__((format(printf, 2, 3)));

/* Runs work(arg) in a process of its own, which starts with clean memory and counters and leaves no
 * thread behind. If it fails, so does this one. */
void measure_apart(void (*work)(void *arg), void *arg);

/* Makes an empty directory below `dir` (NULL: TMPDIR or /tmp), which goes when this process exits.
 * Once a program. */
const char *measure_dir(const char *dir);

/* Bytes that this process has handed to write calls: wchar of /proc/self/io. Its write_bytes would
 * be nearer to the disk but counts, for each few bytes that are changed, the whole folio of the
 * page cache that they lie in, which may be a megabyte where a file system has large ones. */
uint64_t measure_written_bytes(void);

/* Bytes that everybody has written to the disk that `path` is on, by its own count; 0: it has none.
 * Means something on a machine that does nothing else. */
uint64_t measure_disk_bytes(const char *path);

/* Waits until that hasn't changed for two seconds (at most ten minutes): the engine's background
 * work is done. May block for long. */
void measure_settle(void);

/* Memory of this process that no file backs: RssAnon of /proc/self/status. */
uint64_t measure_anonymous_bytes(void);

/* Disk space of all files below `path`. */
uint64_t measure_dir_bytes(const char *path);

/* Leaves nothing of the files below `path` in the page cache: each is synced, then dropped by
 * posix_fadvise(POSIX_FADV_DONTNEED). Nobody may have them mapped. */
void measure_drop_cache(const char *path);

#endif
