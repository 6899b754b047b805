/* forge_salvage.c - what is asked of a copy of a directory made of hostile bytes. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm/salvage.h"
#include "store/lsm/table_format.h"
#include "tests/fuzz/forge.h"

#define OUT  "out"
#define KEPT "kept" /* the manifest's name while it is out of the way */

/* --- The copy's directory ----------------------------------------------------------------------
 */

struct names {
    char names[16][FILES_NAME_BYTES];
    size_t n;
};

static bool note_name(void *arg, const char *name)
{
    struct names *names = arg;

    assert(names->n < sizeof names->names / sizeof names->names[0]);
    assert(strlen(name) < sizeof names->names[0]);
    strcpy(names->names[names->n++], name);
    return true;
}

static size_t empty_out(const struct vfs *vfs)
{
    struct names names = {.n = 0};
    struct vfs_dir *dir;
    enum err err = vfs_dir_open(vfs, OUT, true, &dir);

    assert(err == ERR_OK);
    err = vfs_dir_list(dir, note_name, &names);
    assert(err == ERR_OK);
    for (size_t i = 0; i < names.n; i++) {
        err = vfs_unlink(dir, names.names[i]);
        assert(err == ERR_OK);
    }
    vfs_dir_close(dir);
    return names.n;
}

/* --- Copying -----------------------------------------------------------------------------------
 */

static void hear_finding(void *arg, enum salvage_kind kind, const struct check_finding *finding)
{
    uint64_t *of_kind = arg;

    of_kind[kind]++;
    assert(finding->file[0] != '\0' && finding->text[0] != '\0');
    assert(finding->first_seq <= finding->last_seq);
    forge_touch(finding->first_key);
    forge_touch(finding->end_key);
    for (size_t i = 0; i < finding->n_keys; i++) {
        forge_touch(table_key_bytes(&finding->keys[i]));
    }
}

/* The copy is sound, has what was said that it has, and can be opened. */
static void assert_copied(const struct vfs *vfs, const struct salvage_summary *copied, bool open)
{
    uint64_t records = forge_check_sound(vfs, OUT);

    assert(records == copied->keys);
    bool opened = !open || forge_open_store(vfs, OUT);
    assert(opened);
}

static enum err salvage(const struct vfs *vfs, const char *from, bool older, bool open,
                        struct salvage_summary *ret_summary)
{
    struct salvage_options options = {.from = from, .to = OUT, .older = older};
    struct err_detail detail = {.text = ""};
    uint64_t of_kind[SALVAGE_OLDER + 1] = {0};
    enum err err = salvage_dir(vfs, &options, hear_finding, of_kind, ret_summary, &detail);

    assert(ret_summary->places == of_kind[SALVAGE_LOST]);
    assert(ret_summary->older == of_kind[SALVAGE_OLDER]);
    if (err) {
        size_t left = empty_out(vfs);
        assert(err == ERR_FORMAT || err == ERR_NOT_FOUND || err == ERR_CORRUPT);
        assert(detail.text[0] != '\0' && left == 0);
        return err;
    }
    assert_copied(vfs, ret_summary, open);
    (void)empty_out(vfs);
    return ERR_OK;
}

/* Asking for older versions brings those that were told of, and nothing else. */
static enum err salvage_twice(const struct vfs *vfs, const char *from, bool open,
                              struct salvage_summary *ret_summary)
{
    struct salvage_summary with_older;
    enum err err = salvage(vfs, from, false, open, ret_summary);
    enum err again = salvage(vfs, from, true, false, &with_older);

    assert(again == err && with_older.places == ret_summary->places);
    assert(err || with_older.older == ret_summary->older);
    assert(err || with_older.keys == ret_summary->keys + ret_summary->older);
    return err;
}

static void salvage_without_manifest(const struct vfs *vfs, const char *from, bool has_files,
                                     bool open)
{
    struct salvage_summary summary;
    struct vfs_dir *dir;
    enum err err = vfs_dir_open(vfs, from, false, &dir);

    assert(err == ERR_OK);
    err = vfs_rename(dir, FILES_MANIFEST, KEPT);
    assert(err == ERR_OK);
    err = salvage_twice(vfs, from, open, &summary);
    assert((err == ERR_NOT_FOUND) == !has_files);
    assert(err || summary.places >= 1);
    err = vfs_rename(dir, KEPT, FILES_MANIFEST);
    assert(err == ERR_OK);
    vfs_dir_close(dir);
}

void forge_salvage(const struct vfs *vfs, const char *path, bool sound, bool has_files, bool open)
{
    struct salvage_summary summary;
    enum err err = salvage_twice(vfs, path, open, &summary);

    assert(err != ERR_NOT_FOUND);
    assert(!sound || (err == ERR_OK && summary.places == 0 && summary.older == 0));
    salvage_without_manifest(vfs, path, has_files, open);
}
