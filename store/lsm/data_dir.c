/* data_dir.c - what a data directory holds when it is opened. */
#include "store/lsm/data_dir.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/files.h"

/* --- What is there --- */

struct census {
    struct vfs_dir *dir;   /* where what no manifest can name is removed; NULL: nowhere */
    uint64_t unnamed_from; /* numbers from here on */
    /* Number of any. One that no store comes to by counting is in nobody's way; to go on from it
     * would use up the numbers. */
    uint64_t greatest;
    char ours[NAME_MAX + 1];    /* a segment or table, or "" */
    char foreign[NAME_MAX + 1]; /* a name that no store has, or "" */
};

static bool count(void *arg, const char *name)
{
    struct census *census = arg;
    enum file_kind kind;
    uint64_t number;
    if (files_parse_name(name, &kind, &number)) {
        if (number > census->greatest && number <= UINT64_MAX / 4) {
            census->greatest = number;
        }
        strncpy(census->ours, name, sizeof census->ours - 1);
        if (census->dir && number >= census->unnamed_from) {
            (void)!vfs_unlink(census->dir, name); /* else it goes with the others */
        }
    } else if (!files_is_next(name) && !files_is_anybodys(name)) {
        strncpy(census->foreign, name, sizeof census->foreign - 1);
    }
    return true;
}

static enum err take_census(struct store *store, struct census *census, struct err_detail *detail)
{
    enum err err = vfs_dir_list(store->dir, count, census);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot list %s: %s", store->dir_path, strerror(errno));
    }
    return err;
}

/* New files get numbers above those of any file that is there, named by the manifest or not: what a
 * crash left behind is only removed once the new files are in force. */
static enum err number_everything(struct store *store, const struct manifest *manifest,
                                  struct err_detail *detail)
{
    struct census census = {0};
    enum err err = take_census(store, &census, detail);
    if (err != ERR_OK) {
        return err;
    }
    store->store_id = manifest->store_id;
    store->epoch = manifest->epoch;
    store->manifest_number = manifest->number;
    store->clock_ms = manifest->clock_ms;
    atomic_init(&store->next_file,
                census.greatest >= manifest->next_file ? census.greatest + 1 : manifest->next_file);
    return ERR_OK;
}

/* --- Opening --- */

/* A directory without a manifest is new only if nothing is in it that counts. The first manifest is
 * written before any other file, so a first opening that was cut short leaves at most one on its
 * way. */
static enum err check_new(struct store *store, struct err_detail *detail)
{
    struct census census = {0};
    enum err err = take_census(store, &census, detail);
    if (err != ERR_OK) {
        return err;
    }
    if (census.ours[0] != '\0') {
        err_detail_set(detail,
                       "%s/" FILES_MANIFEST " is missing, but there are data files such as %s: "
                       "restore it from a copy, or give another --data-dir",
                       store->dir_path, census.ours);
        return ERR_CORRUPT;
    }
    if (census.foreign[0] != '\0') {
        err_detail_set(detail,
                       "%s is not a data directory and not empty (there is %s): give a --data-dir "
                       "that is empty or does not exist yet",
                       store->dir_path, census.foreign);
        return ERR_EXISTS;
    }
    return ERR_OK;
}

static enum err create(struct store *store, struct manifest *manifest, struct err_detail *detail)
{
    enum err err = check_new(store, detail);
    if (err != ERR_OK) {
        return err;
    }
    *manifest = (struct manifest){.store_id = engine_random_id(),
                                  .epoch = engine_random_id(),
                                  .number = 1,
                                  .next_file = 1,
                                  .clock_ms = engine_wall_ms()};
    enum manifest_stage stage;
    err = manifest_store(store->dir, manifest, &stage);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot write %s/" FILES_MANIFEST ": %s", store->dir_path,
                       strerror(errno));
    }
    return err;
}

/* Cuts the last name off, with the slashes on both sides of it. False: nothing is left. */
static bool cut_to_parent(char *path)
{
    size_t size = strlen(path);
    while (size > 0 && path[size - 1] == '/') {
        size--;
    }
    while (size > 0 && path[size - 1] != '/') {
        size--;
    }
    while (size > 0 && path[size - 1] == '/') {
        size--;
    }
    path[size] = '\0';
    return size > 0;
}

static bool parent_is_missing(const struct store *store, char *ret_parent)
{
    struct vfs_dir *dir;
    strcpy(ret_parent, store->dir_path);
    if (!cut_to_parent(ret_parent)) {
        return false;
    }
    enum err err = vfs_dir_open(store->vfs, ret_parent, false, &dir);
    if (err == ERR_OK) {
        vfs_dir_close(dir);
    }
    return err == ERR_NOT_FOUND;
}

static void say_why_not_opened(const struct store *store, enum err err, struct err_detail *detail)
{
    const char *path = store->dir_path;
    err_detail_set(detail, "cannot open data directory %s: %s", path, strerror(errno));
    char *parent = err == ERR_NOT_FOUND ? malloc(strlen(path) + 1) : NULL;
    if (parent && parent_is_missing(store, parent)) {
        err_detail_set(detail,
                       "cannot make data directory %s: there is no %s for it to be in; make that "
                       "first (mkdir -p %s)",
                       path, parent, parent);
    }
    free(parent);
}

/* The one before us may have ended between a manifest's rename and the sync of its name, or with
 * both failed: what was found is on the disk from here on. Else a sync of ours that fails would
 * leave that name in doubt for good, and with it every later one, while the files that an older
 * manifest names go. */
static enum err make_names_durable(struct store *store, struct err_detail *detail)
{
    enum err err = vfs_dir_sync(store->dir);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot sync data directory %s: %s", store->dir_path,
                       strerror(errno));
    }
    return err;
}

enum err data_dir_open(struct store *store, struct manifest *ret_manifest,
                       struct err_detail *detail)
{
    const char *path = store->dir_path;
    enum err err = vfs_dir_open(store->vfs, path, true, &store->dir);
    if (err != ERR_OK) {
        say_why_not_opened(store, err, detail);
        return err;
    }
    err = vfs_dir_lock(store->dir);
    if (err == ERR_LOCKED) {
        err_detail_set(detail, "data directory %s is in use by another process", path);
        return err;
    }
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot lock data directory %s: %s", path, strerror(errno));
        return err;
    }
    err = manifest_load(store->dir, ret_manifest, detail);
    if (err == ERR_OK) {
        err = make_names_durable(store, detail);
    } else if (err == ERR_NOT_FOUND) {
        err = create(store, ret_manifest, detail);
    }
    return err == ERR_OK ? number_everything(store, ret_manifest, detail) : err;
}

/* --- What no manifest names --- */

static bool segments_are_there(struct store *store, const struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_segments; i++) {
        char name[FILES_NAME_BYTES];
        struct vfs_file *file;
        files_name(FILE_SEGMENT, manifest->segments[i], name);
        if (vfs_open(store->dir, name, VFS_READ, &file) != ERR_OK) {
            return false;
        }
        vfs_close(file);
    }
    return true;
}

/* Frames begin with the id of their file. */
static bool has_frames(struct store *store, const char *name, uint64_t number)
{
    struct file_header header;
    struct err_detail unwanted;
    struct vfs_file *file;
    uint64_t id = 0;
    size_t got = 0;
    if (vfs_open(store->dir, name, VFS_READ, &file) != ERR_OK) {
        return false;
    }
    bool has = vfs_read(file, 0, &header, sizeof header, &got) == ERR_OK && got == sizeof header &&
               file_header_check(&header, FILE_SEGMENT, store->store_id, number, name, &unwanted) ==
                   ERR_OK &&
               vfs_read(file, WAL_FIRST_FRAME_OFFSET, &id, sizeof id, &got) == ERR_OK &&
               got == sizeof id && id == header.file_id;
    vfs_close(file);
    return has;
}

struct later {
    struct store *store;
    uint64_t from; /* numbers from here on */
    char with_frames[FILES_NAME_BYTES];
};

static bool look_for_frames(void *arg, const char *name)
{
    struct later *later = arg;
    enum file_kind kind;
    uint64_t number;
    if (files_parse_name(name, &kind, &number) && kind == FILE_SEGMENT && number >= later->from &&
        has_frames(later->store, name, number)) {
        strncpy(later->with_frames, name, sizeof later->with_frames - 1);
    }
    return later->with_frames[0] == '\0';
}

enum err data_dir_remove_unnumbered(struct store *store, const struct manifest *manifest,
                                    struct err_detail *detail)
{
    struct census census = {.dir = store->dir, .unnamed_from = manifest->next_file};
    struct later later = {.store = store, .from = manifest->next_file};
    if (!segments_are_there(store, manifest) ||
        vfs_dir_list(store->dir, look_for_frames, &later) != ERR_OK) {
        return ERR_OK;
    }
    if (later.with_frames[0] != '\0') {
        err_detail_set(detail,
                       "%s/" FILES_MANIFEST " is an old one: it was written before %s, which has "
                       "writes; put the last one back, or remove it before a salvage",
                       store->dir_path, later.with_frames);
        return ERR_CORRUPT;
    }
    (void)!vfs_dir_list(store->dir, count, &census);
    return ERR_OK;
}

struct unnamed {
    const struct view *view;
    const uint64_t *segments;
    size_t n_segments;
    char (*names)[FILES_NAME_BYTES];
    size_t n;
    bool failed;
};

static bool is_named(const struct unnamed *unnamed, enum file_kind kind, uint64_t number)
{
    if (kind == FILE_SEGMENT) {
        for (size_t i = 0; i < unnamed->n_segments; i++) {
            if (unnamed->segments[i] == number) {
                return true;
            }
        }
        return false;
    }
    for (size_t level = 0; level < MANIFEST_LEVELS; level++) {
        const struct view_level *of = &unnamed->view->levels[level];
        for (size_t i = 0; i < of->n_tables; i++) {
            if (table_info(of->tables[i])->number == number) {
                return true;
            }
        }
    }
    return false;
}

static bool note_unnamed(void *arg, const char *name)
{
    struct unnamed *unnamed = arg;
    enum file_kind kind;
    uint64_t number;
    bool ours = files_parse_name(name, &kind, &number);
    if (!files_is_next(name) && (!ours || is_named(unnamed, kind, number))) {
        return true;
    }
    void *grown = realloc(unnamed->names, (unnamed->n + 1) * sizeof unnamed->names[0]);
    if (!grown) {
        unnamed->failed = true;
        return false;
    }
    unnamed->names = grown;
    strncpy(unnamed->names[unnamed->n], name, FILES_NAME_BYTES);
    unnamed->names[unnamed->n][FILES_NAME_BYTES - 1] = '\0';
    unnamed->n++;
    return true;
}

void data_dir_remove_unnamed(struct store *store, const struct view *view,
                             const uint64_t segments[], size_t n_segments)
{
    struct unnamed unnamed = {.view = view, .segments = segments, .n_segments = n_segments};
    if (vfs_dir_list(store->dir, note_unnamed, &unnamed) == ERR_OK && !unnamed.failed) {
        for (size_t i = 0; i < unnamed.n; i++) {
            (void)!vfs_unlink(store->dir, unnamed.names[i]);
        }
    }
    free(unnamed.names);
}
