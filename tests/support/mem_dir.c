/* mem_dir.c - two lists of names, and the operations that lead from one to the other. */
#include "tests/support/mem_dir.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"

struct entry {
    char name[MEM_NAME_BYTES];
    struct mem_file *file;
};

/* A list of entries; holds a reference to each file. */
struct names {
    struct entry *entries;
    size_t n;
};

/* file now under `to` (empty: under no name), no longer under `from` (empty: it is new). */
struct change {
    char from[MEM_NAME_BYTES];
    char to[MEM_NAME_BYTES];
    struct mem_file *file;
    bool in_doubt; /* a sync of it failed */
};

struct mem_dir {
    struct names now;
    struct names disk;
    struct change *changes; /* since the last sync, oldest first */
    size_t n_changes;
};

static void copy_name(char into[MEM_NAME_BYTES], const char *name)
{
    size_t size = strlen(name) + 1;

    assert(size <= MEM_NAME_BYTES);
    memcpy(into, name, size);
}

static struct entry *find(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->entries[i].name, name) == 0) {
            return &names->entries[i];
        }
    }
    return NULL;
}

static void add(struct names *names, const char *name, struct mem_file *file)
{
    size_t size = sizeof *names->entries;

    assert(!find(names, name));
    names->entries = test_grow(names->entries, names->n * size, (names->n + 1) * size);
    copy_name(names->entries[names->n].name, name);
    names->entries[names->n].file = mem_file_ref(file);
    names->n++;
}

/* Takes the entry out and hands its reference to the caller. */
static struct mem_file *take(struct names *names, struct entry *entry)
{
    struct mem_file *file = entry->file;

    assert(names->entries && names->n > 0);
    *entry = names->entries[--names->n];
    return file;
}

static void clear(struct names *names)
{
    while (names->n > 0) {
        mem_file_unref(take(names, &names->entries[0]));
    }
    free(names->entries);
    names->entries = NULL;
}

/* Makes the change; returns the file that lost its last name by it, with a reference, or NULL. */
static struct mem_file *apply(struct names *names, const struct change *change)
{
    struct mem_file *nameless = NULL;

    if (change->from[0] != '\0') {
        struct entry *from = find(names, change->from);
        assert(from && from->file == change->file);
        nameless = take(names, from);
    }
    if (change->to[0] != '\0') {
        struct entry *to = find(names, change->to);
        struct mem_file *replaced = to ? take(names, to) : NULL;
        add(names, change->to, change->file);
        if (nameless) {
            mem_file_unref(nameless);
        }
        nameless = replaced;
    }
    return nameless;
}

struct mem_dir *mem_dir_new(void)
{
    return test_alloc(sizeof(struct mem_dir));
}

static void forget_changes(struct mem_dir *dir)
{
    for (size_t i = 0; i < dir->n_changes; i++) {
        mem_file_unref(dir->changes[i].file);
    }
    free(dir->changes);
    dir->changes = NULL;
    dir->n_changes = 0;
}

void mem_dir_free(struct mem_dir *dir)
{
    forget_changes(dir);
    clear(&dir->now);
    clear(&dir->disk);
    free(dir);
}

size_t mem_dir_count(const struct mem_dir *dir)
{
    return dir->now.n;
}

const char *mem_dir_name(const struct mem_dir *dir, size_t index)
{
    assert(index < dir->now.n);
    return dir->now.entries[index].name;
}

struct mem_file *mem_dir_file(const struct mem_dir *dir, size_t index)
{
    assert(index < dir->now.n);
    return dir->now.entries[index].file;
}

struct mem_file *mem_dir_find(const struct mem_dir *dir, const char *name)
{
    const struct entry *entry = find(&dir->now, name);

    return entry ? entry->file : NULL;
}

/* Makes the change where the program sees it and remembers it for the disk. */
static struct mem_file *change(struct mem_dir *dir, const char *from, const char *to,
                               struct mem_file *file)
{
    size_t size = sizeof *dir->changes;
    struct change *added;

    dir->changes = test_grow(dir->changes, dir->n_changes * size, (dir->n_changes + 1) * size);
    added = &dir->changes[dir->n_changes++];
    copy_name(added->from, from);
    copy_name(added->to, to);
    added->file = mem_file_ref(file);
    return apply(&dir->now, added);
}

void mem_dir_create(struct mem_dir *dir, const char *name, struct mem_file *file)
{
    struct mem_file *replaced;

    assert(!find(&dir->now, name));
    replaced = change(dir, "", name, file);
    assert(!replaced);
}

struct mem_file *mem_dir_rename(struct mem_dir *dir, const char *from, const char *to)
{
    struct mem_file *file = mem_dir_find(dir, from);

    assert(file);
    if (strcmp(from, to) == 0) {
        return NULL;
    }
    return change(dir, from, to, file);
}

struct mem_file *mem_dir_unlink(struct mem_dir *dir, const char *name)
{
    struct mem_file *file = mem_dir_find(dir, name);

    assert(file);
    return change(dir, name, "", file);
}

/* Says of a change whether it may happen where nothing before it stands in the way. */
typedef bool happens_fn(const struct change *change, void *arg);

static bool shares_a_name(const struct change *a, const struct change *b)
{
    return (a->from[0] != '\0' && (strcmp(a->from, b->from) == 0 || strcmp(a->from, b->to) == 0)) ||
           (a->to[0] != '\0' && (strcmp(a->to, b->from) == 0 || strcmp(a->to, b->to) == 0));
}

/* Applies to `disk` those changes that happen; moves the others to the begin of the array, in their
 * order, and returns how many they are. A change waits for earlier ones on its names. */
static size_t apply_some(struct names *disk, struct change *changes, size_t n, happens_fn *happens,
                         void *arg)
{
    size_t n_left = 0;

    for (size_t i = 0; i < n; i++) {
        bool free_to = happens(&changes[i], arg);

        for (size_t j = 0; j < n_left && free_to; j++) {
            free_to = !shares_a_name(&changes[i], &changes[j]);
        }
        if (free_to) {
            struct mem_file *nameless = apply(disk, &changes[i]);
            if (nameless) {
                mem_file_unref(nameless);
            }
            mem_file_unref(changes[i].file);
        } else {
            changes[n_left++] = changes[i];
        }
    }
    return n_left;
}

static bool is_certain(const struct change *change, void *arg)
{
    (void)arg;
    return !change->in_doubt;
}

void mem_dir_sync(struct mem_dir *dir)
{
    dir->n_changes = apply_some(&dir->disk, dir->changes, dir->n_changes, is_certain, NULL);
}

void mem_dir_fail_sync(struct mem_dir *dir)
{
    for (size_t i = 0; i < dir->n_changes; i++) {
        dir->changes[i].in_doubt = true;
    }
}

struct chance {
    struct prng *prng;
    unsigned percent;
};

static bool by_chance(const struct change *change, void *arg)
{
    const struct chance *chance = arg;

    (void)change;
    return prng_chance(chance->prng, chance->percent);
}

static void copy_names(struct names *into, const struct names *from)
{
    for (size_t i = 0; i < from->n; i++) {
        add(into, from->entries[i].name, from->entries[i].file);
    }
}

/* A random part of the changes on top of the synced names. */
static void keep_random(const struct mem_dir *dir, struct names *left, struct prng *prng)
{
    struct chance chance = {.prng = prng, .percent = (unsigned)prng_below(prng, 101)};
    size_t size = dir->n_changes * sizeof *dir->changes;
    struct change *changes = test_alloc(size);
    size_t n_left;

    copy_names(left, &dir->disk);
    if (size > 0) {
        memcpy(changes, dir->changes, size);
    }
    for (size_t i = 0; i < dir->n_changes; i++) {
        (void)mem_file_ref(changes[i].file);
    }
    n_left = apply_some(left, changes, dir->n_changes, by_chance, &chance);
    for (size_t i = 0; i < n_left; i++) {
        mem_file_unref(changes[i].file);
    }
    free(changes);
}

struct mem_dir *mem_dir_after_crash(const struct mem_dir *dir, enum mem_keep keep,
                                    struct prng *prng)
{
    struct mem_dir *after = mem_dir_new();
    struct names left = {NULL, 0};

    switch (keep) {
    case MEM_KEEP_NOTHING:
        copy_names(&left, &dir->disk);
        break;
    case MEM_KEEP_RANDOM:
        keep_random(dir, &left, prng);
        break;
    case MEM_KEEP_ALL:
        copy_names(&left, &dir->now);
        break;
    }
    for (size_t i = 0; i < left.n; i++) {
        struct mem_file *file = mem_file_after_crash(left.entries[i].file, keep, prng);
        add(&after->now, left.entries[i].name, file);
        add(&after->disk, left.entries[i].name, file);
        mem_file_unref(file);
    }
    clear(&left);
    return after;
}
