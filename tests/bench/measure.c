/* measure.c - what programs that measure share. */
#include "tests/bench/measure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/temp_dir.h"

_Noreturn void measure_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
    exit(1);
}

/* --- Options ---------------------------------------------------------------------------------- */

static _Noreturn void usage(const struct measure_option options[], size_t n)
{
    fprintf(stderr, "usage: %s", program_invocation_short_name);
    for (size_t i = 0; i < n; i++) {
        fprintf(stderr, " [--%s%s]", options[i].name,
                options[i].flag     ? ""
                : options[i].number ? " N"
                                    : " TEXT");
    }
    fputc('\n', stderr);
    exit(2);
}

static bool take(const struct measure_option *option, const char *value)
{
    char *end;
    if (option->text) {
        *option->text = value;
        return true;
    }
    errno = 0;
    *option->number = strtoull(value, &end, 10);
    return errno == 0 && *end == '\0' && *option->number > 0;
}

void measure_options(int argc, char *argv[], const struct measure_option options[], size_t n)
{
    for (int i = 1; i < argc; i++) {
        size_t o = 0;
        while (o < n &&
               (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, options[o].name) != 0)) {
            o++;
        }
        if (o < n && options[o].flag) {
            *options[o].flag = true;
        } else if (o == n || i + 1 == argc || !take(&options[o], argv[++i])) {
            usage(options, n);
        }
    }
}

bool measure_wanted(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strcspn(at, ",") == size && strncmp(at, name, size) == 0) {
            return true;
        }
    }
    return !list;
}

/* --- The clock, and figures ------------------------------------------------------------------- */

uint64_t measure_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

double measure_rate(uint64_t n, uint64_t began_ns)
{
    return (double)n * 1e9 / (double)(measure_now_ns() - began_ns);
}

void figure_print(const struct figure *figure, const char *more, ...)
{
    char members[512] = "";
    if (more) {
        va_list args;
        va_start(args, more);
        (void)vsnprintf(members, sizeof members, more, args);
        va_end(args);
    }
    printf("{\"group\":\"%s\",\"work\":\"%s\",\"peer\":\"%s\",\"round\":%u,\"value\":%.6g,"
           "\"unit\":\"%s\"%s%s%s}\n",
           figure->group, figure->work, figure->peer, figure->round, figure->value, figure->unit,
           figure->lower_is_better ? ",\"lower_is_better\":true" : "", more ? "," : "", members);
    fflush(stdout);
    fprintf(stderr, "%-7s round %u  %-32s %-8s %12.6g %s\n", figure->group, figure->round,
            figure->work, figure->peer, figure->value, figure->unit);
}

void measure_apart(void (*work)(void *arg), void *arg)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    measure_check(child >= 0, "fork", "failed");
    if (child == 0) {
        work(arg);
        exit(0);
    }
    while (waitpid(child, &status, 0) < 0) {
        measure_check(errno == EINTR, "waitpid", "failed");
    }
    if (status != 0) {
        exit(1); /* it has said why */
    }
}

/* --- What the kernel counts ------------------------------------------------------------------- */

/* The number behind `label` in a file of /proc. */
static uint64_t proc_number(const char *path, const char *label)
{
    char line[256];
    uint64_t number = UINT64_MAX;
    FILE *file = fopen(path, "re");
    while (file && number == UINT64_MAX && fgets(line, sizeof line, file)) {
        if (strncmp(line, label, strlen(label)) == 0) {
            number = strtoull(line + strlen(label), NULL, 10);
        }
    }
    measure_check(number != UINT64_MAX, path, label);
    fclose(file);
    return number;
}

uint64_t measure_written_bytes(void)
{
    return proc_number("/proc/self/io", "wchar:");
}

uint64_t measure_anonymous_bytes(void)
{
    return proc_number("/proc/self/status", "RssAnon:") * 1024;
}

uint64_t measure_disk_bytes(const char *path)
{
    enum { SECTOR_BYTES = 512 };
    char name[64];
    struct stat status;
    uint64_t sectors = 0;
    measure_check(stat(path, &status) == 0, path, "isn't there");
    (void)snprintf(name, sizeof name, "/sys/dev/block/%u:%u/stat", major(status.st_dev),
                   minor(status.st_dev));
    FILE *file = fopen(name, "re");
    if (file) {
        measure_check(fscanf(file, "%*u %*u %*u %*u %*u %*u %" SCNu64, &sectors) == 1, name,
                      "has no seventh number");
        fclose(file);
    }
    return sectors * SECTOR_BYTES;
}

void measure_settle(void)
{
    enum { TICK_MS = 100, QUIET_TICKS = 20, TICKS_MAX = 6000 };
    uint64_t last = measure_written_bytes();
    for (unsigned quiet = 0, ticks = 0; quiet < QUIET_TICKS && ticks < TICKS_MAX; ticks++) {
        nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000L}, NULL);
        uint64_t now = measure_written_bytes();
        quiet = now == last ? quiet + 1 : 0;
        last = now;
    }
}

/* --- Directories ------------------------------------------------------------------------------ */

static char dir_path[TEMP_DIR_BYTES];
static pid_t dir_owner;

static void remove_dir(void)
{
    if (getpid() == dir_owner) {
        temp_dir_remove(dir_path);
    }
}

const char *measure_dir(const char *dir)
{
    if (dir) {
        measure_check(setenv("TMPDIR", dir, 1) == 0, "TMPDIR", "can't be set");
    }
    temp_dir_make(dir_path);
    dir_owner = getpid();
    measure_check(atexit(remove_dir) == 0, "atexit", "failed");
    return dir_path;
}

static uint64_t dir_bytes;

static int add_size(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)path;
    (void)place;
    dir_bytes += type == FTW_F ? (uint64_t)stat->st_blocks * 512 : 0;
    return 0;
}

uint64_t measure_dir_bytes(const char *path)
{
    dir_bytes = 0;
    (void)nftw(path, add_size, 16, FTW_PHYS); /* files may vanish under it */
    return dir_bytes;
}

static int drop(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)stat;
    (void)place;
    if (type == FTW_F) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        measure_check(fd >= 0, path, "can't be opened");
        measure_check(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, path,
                      "can't be dropped from the page cache");
        close(fd);
    }
    return 0;
}

void measure_drop_cache(const char *path)
{
    measure_check(nftw(path, drop, 16, FTW_PHYS) == 0, path, "can't be walked");
}
