/*
 * Short texts that stand for something: names of files, versions, the place that an error's detail
 * names. What is taken has one spelling, which is written again. A file of that name in a data
 * directory, with a manifest or without, is told of where it is one of ours, and harms nobody.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/check.h"
#include "store/lsm/files.h"
#include "store/lsm/manifest.h"
#include "store/store.h"
#include "tests/fuzz/forge.h"
#include "tests/support/vfs_mem.h"

#define DIRECTORY "d"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const char *text)
{
    char again[FILES_NAME_BYTES];
    enum file_kind kind;
    uint64_t number;

    if (files_parse_name(text, &kind, &number)) {
        files_name(kind, number, again);
        assert(strcmp(text, again) == 0);
    }
}

static void count_finding(void *arg, const struct check_finding *finding)
{
    (void)arg;
    assert(finding->text[0] != '\0');
}

static void put_manifest(const struct vfs *vfs)
{
    struct manifest manifest = {
        .store_id = FORGE_STORE_ID, .epoch = 1, .number = 1, .next_file = 1};
    enum manifest_stage stage;
    struct vfs_dir *dir;
    enum err err = vfs_dir_open(vfs, DIRECTORY, true, &dir);

    assert(err == ERR_OK);
    err = manifest_store(dir, &manifest, &stage);
    assert(err == ERR_OK);
    vfs_dir_close(dir);
}

/* Without a manifest a file of ours is damage, and others make no data directory; with one that
 * doesn't name it, it is a note. */
static void check_directory(const char *name, bool has_manifest)
{
    struct vfs_mem *fs = vfs_mem_new(1);
    const struct vfs *vfs = vfs_mem_vfs(fs);
    struct check_summary summary;
    struct err_detail detail;
    struct vfs_dir *dir;
    enum file_kind kind;
    uint64_t number;
    bool ours = files_parse_name(name, &kind, &number);
    enum err err = vfs_dir_open(vfs, DIRECTORY, true, &dir);

    assert(err == ERR_OK);
    vfs_dir_close(dir);
    vfs_mem_put(fs, name, "", 0);
    if (has_manifest) {
        put_manifest(vfs);
    }
    err = check_dir(vfs, DIRECTORY, count_finding, NULL, &summary, &detail);
    assert(err == (has_manifest || ours ? ERR_OK : ERR_NOT_FOUND));
    if (has_manifest) {
        assert(summary.problems == 0 && summary.notes == ours);
    } else {
        assert(err || summary.problems >= 1); /* beside the manifest the empty file may be one */
    }
    if (has_manifest && ours) {
        bool opened = forge_open_store(vfs, DIRECTORY);
        assert(opened && !vfs_mem_exists(fs, name));
    }
    vfs_mem_free(fs);
}

/* True for the name of some file that isn't the store's own in a special way. */
static bool is_plain(const char *name)
{
    return name[0] != '\0' && strlen(name) < MEM_NAME_BYTES && strchr(name, '/') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strncmp(name, FILES_MANIFEST, strlen(FILES_MANIFEST)) != 0;
}

static void check_version(const uint8_t *data, size_t size)
{
    char again[STORE_VERSION_TEXT_BYTES];
    struct store_version version;

    if (store_version_parse(bytes_of(data, size), &version)) {
        assert(store_version_format(version, again) == size);
        assert(memcmp(again, data, size) == 0);
    }
}

/* The sentence is the end of the text; a name stands at its begin. */
static void check_place(const char *text)
{
    char name[FILES_NAME_BYTES] = "";
    uint64_t offset;
    const char *sentence = check_take_place(text, name, &offset);

    assert(sentence >= text && sentence <= text + strlen(text));
    assert(strlen(name) < sizeof name && strncmp(text, name, strlen(name)) == 0);
    assert((sentence == text) == (name[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size); /* as short as it is: reads beyond it show */

    assert(text != NULL);
    check_name(text);
    check_place(text);
    if (is_plain(text)) {
        check_directory(text, false);
        check_directory(text, true);
    }
    free(text);
    check_version(data, size);
    return 0;
}
