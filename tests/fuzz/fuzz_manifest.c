/*
 * A manifest, as any bytes, with its checksums made right (forge.h). Read, shown, checked and
 * salvaged (without the files that it names), and what was read is the same again once it was
 * written.
 *
 * Settings: target[0] bit 0 also opens the store.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/manifest.h"
#include "tests/fuzz/forge.h"
#include "tests/support/vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIRECTORY "d"

enum { OPEN_STORE = 1 };

/* Sections follow the header, 16 bytes end the file: its size, zero, the checksum of the rest. */
static void mend(struct forged *forged)
{
    enum { END_BYTES = 16, CHECKSUM_BYTES = 4 };
    size_t header = sizeof(struct file_header);
    uint64_t file_id = forge_header(forged, forged->data, forged->size, 1);

    if (forged->size < header + END_BYTES) {
        return;
    }
    uint8_t *end = forged->data + forged->size - END_BYTES;
    forge_sections(forged, forged->data + header, forged->size - header - END_BYTES, file_id);
    if ((forged->settings.leave & FORGE_LEAVE_SIZES) == 0) {
        store_u64(end, forged->size);
    }
    forge_checksum(forged, end + END_BYTES - CHECKSUM_BYTES,
                   crc32c(0, forged->data, forged->size - CHECKSUM_BYTES));
}

static bool tables_equal(const struct manifest_table *a, const struct manifest_table *b)
{
    return a->level == b->level && a->info.number == b->info.number &&
           a->info.footer_checksum == b->info.footer_checksum &&
           a->info.records == b->info.records && a->info.max_seq == b->info.max_seq &&
           a->info.smallest.size == b->info.smallest.size &&
           memcmp(a->info.smallest.data, b->info.smallest.data, a->info.smallest.size) == 0 &&
           a->info.largest.size == b->info.largest.size &&
           memcmp(a->info.largest.data, b->info.largest.data, a->info.largest.size) == 0;
}

/* How often a segment or table has this number. */
static size_t count_number(const struct manifest *manifest, uint64_t number)
{
    size_t n = 0;

    for (size_t i = 0; i < manifest->n_tables; i++) {
        n += manifest->tables[i].info.number == number;
    }
    for (size_t i = 0; i < manifest->n_segments; i++) {
        n += manifest->segments[i] == number;
    }
    return n;
}

/* FORMAT.md, "Manifest", once more. */
static void assert_sane(const struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_tables; i++) {
        const struct manifest_table *table = &manifest->tables[i];
        assert(table->level < MANIFEST_LEVELS);
        assert(table_info_is_plausible(&table->info));
        assert(table->info.number < manifest->next_file);
        assert(count_number(manifest, table->info.number) == 1);
        assert(table->info.max_seq <= manifest->covered_seq);
        assert(i == 0 || manifest->tables[i - 1].level <= table->level);
    }
    for (size_t i = 0; i < manifest->n_segments; i++) {
        assert(manifest->segments[i] != 0 && manifest->segments[i] < manifest->next_file);
        assert(i == 0 || manifest->segments[i - 1] < manifest->segments[i]);
    }
}

static void assert_same_when_written(struct vfs_dir *dir, struct manifest *manifest)
{
    enum manifest_stage stage;
    struct manifest again;
    struct err_detail detail;
    enum err err = manifest_store(dir, manifest, &stage);

    assert(err == ERR_OK && stage == MANIFEST_DONE);
    err = manifest_load(dir, &again, &detail);
    assert(err == ERR_OK);
    assert(again.store_id == manifest->store_id && again.epoch == manifest->epoch &&
           again.number == manifest->number && again.next_file == manifest->next_file &&
           again.covered_seq == manifest->covered_seq && again.clock_ms == manifest->clock_ms);
    assert(again.n_tables == manifest->n_tables && again.n_segments == manifest->n_segments);
    for (size_t i = 0; i < again.n_tables; i++) {
        assert(tables_equal(&again.tables[i], &manifest->tables[i]));
    }
    for (size_t i = 0; i < again.n_segments; i++) {
        assert(again.segments[i] == manifest->segments[i]);
    }
    manifest_release(&again);
}

/* Opening a store counts files and manifests on: it can be opened again if that stays in range. */
static bool has_room(const struct manifest *manifest)
{
    enum { FILES = 1000 };

    return manifest->number < UINT64_MAX / 2 - FILES &&
           manifest->next_file < UINT64_MAX / 2 - FILES;
}

static void check(struct vfs_mem *fs, const struct forged *forged)
{
    const struct vfs *vfs = vfs_mem_vfs(fs);
    struct manifest manifest;
    struct err_detail detail = {.text = ""};
    struct vfs_dir *dir;
    bool damaged;
    bool openable = true;
    enum err err = vfs_dir_open(vfs, DIRECTORY, true, &dir);

    assert(err == ERR_OK);
    vfs_mem_put(fs, FILES_MANIFEST, forged->data, forged->size);
    (void)forge_dump(vfs, DIRECTORY "/" FILES_MANIFEST, &damaged);
    uint64_t problems = forge_check(vfs, DIRECTORY);
    forge_salvage(vfs, DIRECTORY, problems == 0, false, forged->settings.target[0] & OPEN_STORE);
    err = manifest_load(dir, &manifest, &detail);
    assert((err != ERR_OK) == damaged);
    if (err) {
        forge_assert_named(err, &detail);
        assert(problems == 1);
    } else {
        assert_sane(&manifest);
        openable = has_room(&manifest);
        assert((problems == 0) == (manifest.n_tables + manifest.n_segments == 0));
        assert_same_when_written(dir, &manifest);
        manifest_release(&manifest);
    }
    if (openable && forged->settings.target[0] & OPEN_STORE) {
        bool opened = forge_open_store(vfs, DIRECTORY);
        assert(opened == (problems == 0));
    }
    vfs_dir_close(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forged forged;

    if (!forged_init(&forged, data, size)) {
        return 0;
    }
    struct vfs_mem *fs = vfs_mem_new(1);
    mend(&forged);
    check(fs, &forged);
    vfs_mem_free(fs);
    forged_release(&forged);
    return 0;
}
