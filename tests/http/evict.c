/* Tables leave memory. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

enum { PAGE_BYTES = 4096 };

static bool is_any_cached(int fd, size_t size)
{
    size_t pages = (size + PAGE_BYTES - 1) / PAGE_BYTES;
    unsigned char *resident = malloc(pages);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    bool any = false;
    assert_non_null(resident);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, size, resident), 0);
    for (size_t i = 0; i < pages; i++) {
        any = any || (resident[i] & 1) != 0;
    }
    munmap(map, size);
    free(resident);
    return any;
}

static void evict(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    do {
        assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    } while (is_any_cached(fd, (size_t)status.st_size));
    close(fd);
}

bool can_evict(void)
{
    char dir[TEMP_DIR_BYTES];
    struct statfs where;
    temp_dir_make(dir);
    int failed = statfs(dir, &where);
    temp_dir_remove(dir);
    return failed == 0 && where.f_type != TMPFS_MAGIC;
}

void evict_tables(const char *dir)
{
    char path[TEMP_DIR_BYTES + 300];
    DIR *names = opendir(dir);
    assert_non_null(names);
    for (struct dirent *name = readdir(names); name != NULL; name = readdir(names)) {
        if (strstr(name->d_name, ".table") != NULL) {
            (void)snprintf(path, sizeof path, "%s/%s", dir, name->d_name);
            evict(path);
        }
    }
    closedir(names);
}
