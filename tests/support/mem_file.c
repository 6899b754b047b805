/* mem_file.c - two copies of the content, and a state for each sector. */
#include "tests/support/mem_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"

enum sector_state {
    SECTOR_CLEAN, /* both copies agree */
    SECTOR_DIRTY, /* a sync will write it */
    SECTOR_LOST,  /* a failed sync gave it up: the copies differ, and no sync will write it */
};

/* What a dirty sector held between its synced and its latest bytes. */
struct version {
    struct version *older;
    unsigned char bytes[MEM_SECTOR_BYTES];
};

struct sector {
    enum sector_state state;
    unsigned n_versions;
    struct version *newest;
};

struct mem_file {
    unsigned refs;
    unsigned users;
    /* Both copies have n_sectors * MEM_SECTOR_BYTES bytes; those behind a copy's size are zeros. */
    size_t n_sectors;
    struct sector *sectors;
    unsigned char *now;
    unsigned char *disk;
    uint64_t size_now;
    uint64_t size_disk;
};

struct mem_file *mem_file_new(void)
{
    struct mem_file *file = test_alloc(sizeof *file);

    file->refs = 1;
    return file;
}

struct mem_file *mem_file_ref(struct mem_file *file)
{
    file->refs++;
    return file;
}

static void forget_versions(struct sector *sector)
{
    while (sector->newest) {
        struct version *version = sector->newest;
        sector->newest = version->older;
        free(version);
    }
    sector->n_versions = 0;
}

void mem_file_unref(struct mem_file *file)
{
    assert(file->refs > 0);
    if (--file->refs > 0) {
        return;
    }
    for (size_t i = 0; i < file->n_sectors; i++) {
        forget_versions(&file->sectors[i]);
    }
    free(file->sectors);
    free(file->now);
    free(file->disk);
    free(file);
}

void mem_file_use(struct mem_file *file)
{
    file->users++;
}

bool mem_file_disuse(struct mem_file *file)
{
    assert(file->users > 0);
    return --file->users == 0;
}

uint64_t mem_file_size(const struct mem_file *file)
{
    return file->size_now;
}

size_t mem_file_read(const struct mem_file *file, uint64_t offset, void *into, size_t size)
{
    uint64_t left = offset < file->size_now ? file->size_now - offset : 0;
    size_t n = left < size ? (size_t)left : size;

    if (n > 0) {
        memcpy(into, file->now + offset, n);
    }
    return n;
}

/* Room for `size_bytes`, at least doubled so that appending stays linear. */
static void make_room(struct mem_file *file, uint64_t size_bytes)
{
    size_t needed = (size_t)((size_bytes + MEM_SECTOR_BYTES - 1) / MEM_SECTOR_BYTES);
    size_t had = file->n_sectors;
    size_t n = needed < 2 * had ? 2 * had : needed;

    if (needed <= had) {
        return;
    }
    file->now = test_grow(file->now, had * MEM_SECTOR_BYTES, n * MEM_SECTOR_BYTES);
    file->disk = test_grow(file->disk, had * MEM_SECTOR_BYTES, n * MEM_SECTOR_BYTES);
    file->sectors =
        test_grow(file->sectors, had * sizeof *file->sectors, n * sizeof *file->sectors);
    file->n_sectors = n;
}

/* Before the sector changes: remembers what it holds if that was never synced. */
static void make_dirty(struct mem_file *file, size_t index)
{
    struct sector *sector = &file->sectors[index];

    if (sector->state == SECTOR_DIRTY) {
        struct version *version = test_alloc(sizeof *version);
        memcpy(version->bytes, file->now + index * MEM_SECTOR_BYTES, MEM_SECTOR_BYTES);
        version->older = sector->newest;
        sector->newest = version;
        sector->n_versions++;
    }
    sector->state = SECTOR_DIRTY;
}

void mem_file_write(struct mem_file *file, uint64_t offset, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    make_room(file, offset + size);
    for (uint64_t i = offset / MEM_SECTOR_BYTES; i * MEM_SECTOR_BYTES < offset + size; i++) {
        make_dirty(file, (size_t)i);
    }
    memcpy(file->now + offset, data, size);
    if (offset + size > file->size_now) {
        file->size_now = offset + size;
    }
}

void mem_file_extend(struct mem_file *file, uint64_t size_bytes)
{
    if (size_bytes > file->size_now) {
        make_room(file, size_bytes);
        file->size_now = size_bytes;
    }
}

static void write_back(struct mem_file *file, size_t index)
{
    size_t at = index * MEM_SECTOR_BYTES;

    memcpy(file->disk + at, file->now + at, MEM_SECTOR_BYTES);
    forget_versions(&file->sectors[index]);
    file->sectors[index].state = SECTOR_CLEAN;
}

void mem_file_sync(struct mem_file *file)
{
    for (size_t i = 0; i < file->n_sectors; i++) {
        if (file->sectors[i].state == SECTOR_DIRTY) {
            write_back(file, i);
        }
    }
    file->size_disk = file->size_now;
}

void mem_file_fail_sync(struct mem_file *file, struct prng *prng)
{
    unsigned percent = (unsigned)prng_below(prng, 101);

    for (size_t i = 0; i < file->n_sectors; i++) {
        if (file->sectors[i].state != SECTOR_DIRTY) {
            continue;
        }
        if (prng_chance(prng, percent)) {
            write_back(file, i);
        } else {
            forget_versions(&file->sectors[i]);
            file->sectors[i].state = SECTOR_LOST;
        }
    }
}

void mem_file_put(struct mem_file *file, const void *data, size_t size)
{
    for (size_t i = 0; i < file->n_sectors; i++) {
        forget_versions(&file->sectors[i]);
        file->sectors[i].state = SECTOR_CLEAN;
    }
    if (file->n_sectors > 0) {
        memset(file->now, 0, file->n_sectors * MEM_SECTOR_BYTES);
        memset(file->disk, 0, file->n_sectors * MEM_SECTOR_BYTES);
    }
    make_room(file, size);
    if (size > 0) {
        memcpy(file->now, data, size);
        memcpy(file->disk, data, size);
    }
    file->size_now = size;
    file->size_disk = size;
}

/* The bytes of one of the versions that were never synced: the latest, or one before it. */
static const unsigned char *any_unsynced(const struct mem_file *file, size_t index,
                                         struct prng *prng)
{
    const struct sector *sector = &file->sectors[index];
    uint64_t back = prng_below(prng, sector->n_versions + 1);
    const struct version *version = sector->newest;

    if (back == 0) {
        return file->now + index * MEM_SECTOR_BYTES;
    }
    while (--back > 0) {
        version = version->older;
    }
    return version->bytes;
}

static uint64_t size_after_crash(const struct mem_file *file, struct prng *prng)
{
    assert(file->size_disk <= file->size_now);
    switch (prng_below(prng, 3)) {
    case 0:
        return file->size_disk;
    case 1:
        return file->size_now;
    default:
        return file->size_disk + prng_below(prng, file->size_now - file->size_disk + 1);
    }
}

/* Writes a random part of what differs into `left`, which holds the synced content. */
static void keep_random(const struct mem_file *file, unsigned char *left, struct prng *prng)
{
    /* Drawn for each file, so that nothing, little, much and all occur. */
    unsigned percent = (unsigned)prng_below(prng, 101);

    for (size_t i = 0; i < file->n_sectors; i++) {
        if (file->sectors[i].state == SECTOR_DIRTY && prng_chance(prng, percent)) {
            memcpy(left + i * MEM_SECTOR_BYTES, any_unsynced(file, i, prng), MEM_SECTOR_BYTES);
        }
    }
}

struct mem_file *mem_file_after_crash(const struct mem_file *file, enum mem_keep keep,
                                      struct prng *prng)
{
    struct mem_file *after = mem_file_new();
    size_t room = file->n_sectors * MEM_SECTOR_BYTES;
    unsigned char *left;

    if (keep != MEM_KEEP_RANDOM) {
        bool all = keep == MEM_KEEP_ALL;
        mem_file_put(after, all ? file->now : file->disk,
                     (size_t)(all ? file->size_now : file->size_disk));
        return after;
    }
    left = test_alloc(room);
    if (room > 0) {
        memcpy(left, file->disk, room);
    }
    keep_random(file, left, prng);
    mem_file_put(after, left, (size_t)size_after_crash(file, prng));
    free(left);
    return after;
}
