/* salvage_case.c - a directory with a known history, and what a copy of it may say. */
#include "tests/support/salvage_case.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/pattern.h"

#define KEYS 240u

/* --- The history ------------------------------------------------------------------------------ */

static void note(struct salvage_case *fixture, size_t key)
{
    if (fixture->n_writes == fixture->room_writes) {
        fixture->room_writes = 2 * fixture->room_writes + 64;
        fixture->writes =
            realloc(fixture->writes, fixture->room_writes * sizeof fixture->writes[0]);
        assert_non_null(fixture->writes);
    }
    struct salvage_write *write = &fixture->writes[fixture->n_writes++];
    *write = (struct salvage_write){
        .seq = fixture->n_writes, .key = key, .version = fixture->db.keys[key].version};
    if (write->version > 0) {
        assert_int_equal(fixture->db.keys[key].shown.number, write->seq);
    }
}

static void put(struct salvage_case *fixture, size_t key, size_t size)
{
    driven_put(&fixture->db, key, size);
    note(fixture, key);
}

static void del(struct salvage_case *fixture, size_t key)
{
    if (fixture->db.keys[key].version > 0) {
        driven_delete(&fixture->db, key);
        note(fixture, key);
    }
}

/* One write in `step` keys, of which one in six is a delete. */
static void write_some(struct salvage_case *fixture, size_t step)
{
    struct prng *prng = &fixture->db.prng;
    for (size_t key = prng_below(prng, step); key < KEYS; key += 1 + prng_below(prng, 2 * step)) {
        if (prng_chance(prng, 16)) {
            del(fixture, key);
        } else {
            put(fixture, key, prng_chance(prng, 2) ? 70000 : 8 + prng_below(prng, 150));
        }
    }
}

static void write_history(struct salvage_case *fixture)
{
    struct driven *db = &fixture->db;
    for (size_t key = 0; key < KEYS; key++) {
        put(fixture, key, key % 97 == 5 ? 140000 : 8 + key % 120);
    }
    assert_ok(driven_compact(db));
    for (int i = 0; i < 4; i++) {
        write_some(fixture, 6);
        driven_flush(db);
    }
    driven_settle(db);
    for (int i = 0; i < 2; i++) {
        write_some(fixture, 12);
        driven_flush(db);
    }
    write_some(fixture, 4);
    assert_true(engine_log_idle_step(db->store));
}

static void load_manifest(struct salvage_case *fixture)
{
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "data", false, &dir));
    assert_ok(manifest_load(dir, &fixture->manifest, NULL));
    vfs_dir_close(dir);
    assert_true(fixture->manifest.n_tables >= 3);
    assert_true(fixture->manifest.tables[fixture->manifest.n_tables - 1].level > 0);
}

int salvage_case_set_up(void **state)
{
    struct salvage_case *fixture = calloc(1, sizeof *fixture);
    struct vfs_dir *dir;
    assert_non_null(fixture);
    fixture->fs = vfs_mem_new(test_seed());
    fixture->n_keys = KEYS;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "out", true, &dir));
    vfs_dir_close(dir);
    driven_init(&fixture->db, vfs_mem_vfs(fixture->fs), "data", KEYS, test_seed());
    driven_open(&fixture->db);
    write_history(fixture);
    engine_abandon(fixture->db.store);
    fixture->db.store = NULL;
    load_manifest(fixture);
    *state = fixture;
    return 0;
}

int salvage_case_tear_down(void **state)
{
    struct salvage_case *fixture = *state;
    driven_release(&fixture->db);
    manifest_release(&fixture->manifest);
    vfs_mem_free(fixture->fs);
    free(fixture->writes);
    free(fixture->said);
    free(fixture);
    return 0;
}

/* --- Files ------------------------------------------------------------------------------------ */

static const char *path_of(enum file_kind kind, uint64_t number)
{
    static char paths[4][FILES_NAME_BYTES + 8];
    static size_t at;
    char name[FILES_NAME_BYTES];
    char *path = paths[at++ % COUNT_OF(paths)];
    files_name(kind, number, name);
    snprintf(path, sizeof paths[0], "data/%s", name);
    return path;
}

const char *salvage_case_table(const struct salvage_case *fixture, size_t i)
{
    return path_of(FILE_TABLE, fixture->manifest.tables[i].info.number);
}

const char *salvage_case_segment(const struct salvage_case *fixture, size_t i)
{
    return path_of(FILE_SEGMENT, fixture->manifest.segments[i]);
}

void salvage_case_remove(struct salvage_case *fixture, const char *name)
{
    struct vfs_dir *dir;
    char path[64];
    snprintf(path, sizeof path, "%s", name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), path, false, &dir));
    assert_ok(vfs_unlink(dir, slash + 1));
    vfs_dir_close(dir);
}

struct names {
    char names[64][64];
    size_t n;
};

static bool note_name(void *arg, const char *name)
{
    struct names *names = arg;
    assert_true(names->n < COUNT_OF(names->names));
    snprintf(names->names[names->n++], sizeof names->names[0], "%s", name);
    return true;
}

void salvage_case_clear_out(struct salvage_case *fixture)
{
    struct names names = {.n = 0};
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "out", true, &dir));
    assert_ok(vfs_dir_list(dir, note_name, &names));
    for (size_t i = 0; i < names.n; i++) {
        assert_ok(vfs_unlink(dir, names.names[i]));
    }
    vfs_dir_close(dir);
}

/* --- Salvage ---------------------------------------------------------------------------------- */

static size_t copy_key(uint8_t into[static 80], struct bytes key)
{
    assert_true(key.size <= 80);
    if (key.size > 0) {
        memcpy(into, key.data, key.size);
    }
    return key.size;
}

static void on_finding(void *arg, enum salvage_kind kind, const struct check_finding *finding)
{
    struct salvage_case *fixture = arg;
    if (fixture->n_said == fixture->room_said) {
        fixture->room_said = 2 * fixture->room_said + 16;
        fixture->said = realloc(fixture->said, fixture->room_said * sizeof fixture->said[0]);
        assert_non_null(fixture->said);
    }
    struct salvage_said *said = &fixture->said[fixture->n_said++];
    *said = (struct salvage_said){.kind = kind,
                                  .offset = finding->offset,
                                  .has_keys = finding->has_keys,
                                  .first_seq = finding->first_seq,
                                  .last_seq = finding->last_seq,
                                  .records = finding->records};
    snprintf(said->file, sizeof said->file, "%s", finding->file);
    snprintf(said->text, sizeof said->text, "%s", finding->text);
    said->first_size = copy_key(said->first_key, finding->first_key);
    said->end_size = copy_key(said->end_key, finding->end_key);
}

enum err salvage_case_run(struct salvage_case *fixture, bool older)
{
    struct salvage_options options = {.from = "data", .to = "out", .older = older};
    fixture->n_said = 0;
    fixture->detail.text[0] = '\0';
    salvage_case_clear_out(fixture);
    return salvage_dir(vfs_mem_vfs(fixture->fs), &options, on_finding, fixture, &fixture->summary,
                       &fixture->detail);
}

bool salvage_case_said(const struct salvage_case *fixture, enum salvage_kind kind, const char *file)
{
    const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    for (size_t i = 0; i < fixture->n_said; i++) {
        if (fixture->said[i].kind == kind && strcmp(fixture->said[i].file, name) == 0) {
            return true;
        }
    }
    return false;
}

/* --- What a copy may say ---------------------------------------------------------------------- */

static struct bytes key_of(size_t key, char buffer[DRIVEN_KEY_BYTES])
{
    return bytes_of(buffer, (size_t)snprintf(buffer, DRIVEN_KEY_BYTES, "key/%08zu", key));
}

static bool covers(const struct salvage_said *said, struct bytes key)
{
    return said->has_keys && bytes_compare(bytes_of(said->first_key, said->first_size), key) <= 0 &&
           (said->end_size == 0 || bytes_compare(key, bytes_of(said->end_key, said->end_size)) < 0);
}

static bool said_of_key(const struct salvage_case *fixture, enum salvage_kind kind,
                        struct bytes key)
{
    for (size_t i = 0; i < fixture->n_said; i++) {
        if (fixture->said[i].kind == kind && covers(&fixture->said[i], key)) {
            return true;
        }
    }
    return false;
}

static bool said_of_write(const struct salvage_case *fixture, uint64_t seq)
{
    for (size_t i = 0; i < fixture->n_said; i++) {
        const struct salvage_said *said = &fixture->said[i];
        if (said->kind == SALVAGE_LOST && said->first_seq <= seq && seq <= said->last_seq) {
            return true;
        }
    }
    return false;
}

/* Whether every write of the key behind that of `version` (0: the newest delete that is left, or
 * none at all) is said to be lost. */
static bool later_writes_are_lost(const struct salvage_case *fixture, size_t key, uint64_t version)
{
    for (size_t i = fixture->n_writes; i-- > 0;) {
        const struct salvage_write *write = &fixture->writes[i];
        if (write->key != key) {
            continue;
        }
        if (write->version == version) {
            return true;
        }
        if (!said_of_write(fixture, write->seq)) {
            return false;
        }
    }
    return version == 0;
}

struct looked {
    struct salvage_case *fixture;
    size_t key;
    bool older;
    bool newest; /* the copy has it */
};

static void judge(const struct looked *looked, bool found, uint64_t version, struct bytes key)
{
    const struct salvage_case *fixture = looked->fixture;
    bool excused = later_writes_are_lost(fixture, looked->key, version);
    if (!found) {
        excused = excused || said_of_key(fixture, SALVAGE_LOST, key) ||
                  said_of_key(fixture, SALVAGE_OLDER, key);
    } else if (looked->older) {
        excused = excused || said_of_key(fixture, SALVAGE_OLDER, key);
    }
    if (!excused && !fixture->any_loss) {
        fail_msg("key %zu has version %llu, not %llu, and nothing was said of it", looked->key,
                 (unsigned long long)version,
                 (unsigned long long)fixture->db.keys[looked->key].version);
    }
}

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct looked *looked = arg;
    const struct driven_key *expected = &looked->fixture->db.keys[looked->key];
    uint64_t version = 0;
    char buffer[DRIVEN_KEY_BYTES];
    struct bytes key = key_of(looked->key, buffer);
    assert_ok(err);
    if (entry) {
        struct store_entry mine = *entry;
        assert_true(pattern_version(key, entry->value, &version));
        assert_true(entry->modified_ms > 0);
        if (version == expected->version) {
            assert_int_equal(entry->value.size, expected->size);
            assert_int_equal(entry->version.number, expected->shown.number);
            assert_true(entry->version.epoch != expected->shown.epoch);
        }
        store_entry_release(&mine);
    }
    looked->newest = version == expected->version;
    if (!looked->newest) {
        judge(looked, entry != NULL, version, key);
    }
}

static void on_check_finding(void *arg, const struct check_finding *finding)
{
    (void)arg;
    fail_msg("the copy has %s, offset %llu: %s", finding->file, (unsigned long long)finding->offset,
             finding->text);
}

size_t salvage_case_check(struct salvage_case *fixture, bool older)
{
    struct check_summary summary;
    struct err_detail detail;
    struct driven out;
    size_t differ = 0;

    assert_ok(
        check_dir(vfs_mem_vfs(fixture->fs), "out", on_check_finding, NULL, &summary, &detail));
    assert_int_equal(summary.table_records, fixture->summary.keys);
    driven_init(&out, vfs_mem_vfs(fixture->fs), "out", KEYS, 1);
    driven_open(&out);
    for (size_t key = 0; key < KEYS; key++) {
        struct looked looked = {.fixture = fixture, .key = key, .older = older};
        char buffer[DRIVEN_KEY_BYTES];
        store_get(out.store, key_of(key, buffer), on_get, &looked);
        differ += !looked.newest;
    }
    engine_abandon(out.store);
    out.store = NULL;
    driven_release(&out);
    return differ;
}

size_t salvage_case_copy(struct salvage_case *fixture, bool older)
{
    enum err err = salvage_case_run(fixture, older);
    if (err != ERR_OK) {
        fail_msg("%s: %s", err_name(err), fixture->detail.text);
    }
    return salvage_case_check(fixture, older);
}
