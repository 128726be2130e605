// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/checkpoint.h and common/shard_index.h. Every tensor here has four bytes.
#include "common/checkpoint.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/shard_index.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char *scratch;
static oct_arena arena;  // paths, until the end

// --- files ---

static const char *at(const char *name)
{
    return oct_path_join(&arena, scratch, name);
}

static const char *make_folder(const char *name)
{
    CHECK(mkdir(at(name), 0700) == 0);
    return at(name);
}

// A file with the tensors named in `names`, separated by spaces.
static const char *put_model(const char *name, const char *names)
{
    static const uint64_t shape[] = {4};
    oct_st_writer writer = {0};
    oct_err err = {0};

    char *copy = oct_arena_copy(&arena, names), *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        oct_st_writer_add(&writer, word, OCT_U8, 1, shape);
    CHECK(oct_st_writer_begin(&writer, at(name), &err) == OCT_OK);
    for (size_t i = 0; i < writer.n_tensors; i++)
        oct_st_writer_write(&writer, &writer.tensors[i], 0, "data", 4, &err);
    CHECK(oct_st_writer_commit(&writer, &err) == OCT_OK);
    oct_st_writer_deinit(&writer);
    return at(name);
}

static const char *put_text(const char *name, const char *text)
{
    oct_err err = {0};
    CHECK(oct_file_write(at(name), text, strlen(text), &err) == OCT_OK);
    return at(name);
}

// "component:prefix|name ..." of everything listed, in order.
static const char *list(const oct_checkpoint *ckpt)
{
    const char *text = "";
    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *t = &ckpt->tensors[i];
        text = oct_arena_print(&arena, "%s%s%s:%s|%s", text, i ? " " : "",
                               oct_component_name(t->component), t->prefix, t->name);
    }
    return text;
}

static void check_list(const oct_model_paths *paths, const char *want)
{
    oct_checkpoint ckpt;
    oct_err err = {0};

    CHECK(oct_checkpoint_open(&ckpt, paths, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK_TEXT(list(&ckpt), want);
    for (size_t i = 0; i < ckpt.n_tensors; i++) {
        const oct_ckpt_tensor *t = &ckpt.tensors[i];
        CHECK_TEXT(t->tensor->name, oct_arena_print(&arena, "%s%s", t->prefix, t->name));
        CHECK(oct_safetensors_find(t->file, t->tensor->name) == t->tensor);
    }
    oct_checkpoint_close(&ckpt);
    CHECK(!ckpt.tensors && !ckpt.files && !ckpt.arena.chunks);
}

static void check_refused(const oct_model_paths *paths, oct_status status, const char *want)
{
    oct_checkpoint ckpt;
    oct_err err = {0};

    const oct_status got = oct_checkpoint_open(&ckpt, paths, &err);
    CHECK(got == status && strstr(err.text, want));
    if (!strstr(err.text, want)) printf("# want \"%s\", got %d \"%s\"\n", want, got, err.text);
    CHECK(!ckpt.files && !ckpt.n_files && !ckpt.arena.chunks);
    oct_checkpoint_close(&ckpt);
}

// --- single files ---

static void a_prefixed_single_file_is_split_by_prefix(void)
{
    const char *model = put_model("sai", "model.diffusion_model.joint_blocks.0.x "
                                         "model.diffusion_model.pos_embed "
                                         "first_stage_model.decoder.conv_in.weight");
    check_list(&(oct_model_paths){.model = model},
               "denoiser:model.diffusion_model.|joint_blocks.0.x "
               "denoiser:model.diffusion_model.|pos_embed "
               "vae:first_stage_model.|decoder.conv_in.weight");
}

static void an_all_in_one_file_has_every_component(void)
{
    const char *model = put_model(
        "all",
        "model.diffusion_model.pos_embed first_stage_model.x "
        "text_encoders.clip_l.transformer.text_model.a text_encoders.clip_l.logit_scale "
        "text_encoders.clip_g.transformer.text_model.b "
        "text_encoders.t5xxl.transformer.shared.weight "
        "text_encoders.t5xxl.transformer.encoder.embed_tokens.weight "
        "model_sampling.sigmas loose model.diffusion_model. model.diffusion_model.scaled_fp8");
    check_list(&(oct_model_paths){.model = model},
               "denoiser:model.diffusion_model.|pos_embed "
               "denoiser:model.diffusion_model.|scaled_fp8 "
               "vae:first_stage_model.|x "
               "clip-l:text_encoders.clip_l.transformer.|text_model.a "
               "clip-g:text_encoders.clip_g.transformer.|text_model.b "
               "t5:text_encoders.t5xxl.transformer.|encoder.embed_tokens.weight "
               "t5:text_encoders.t5xxl.transformer.|shared.weight "
               "other:|loose other:|model.diffusion_model. other:|model_sampling.sigmas "
               "other:|text_encoders.clip_l.logit_scale");
}

static void an_unprefixed_model_is_a_denoiser(void)
{
    static const struct {
        const char *names, *want;
    } models[] = {
        {"joint_blocks.0.x pos_embed", "denoiser:|joint_blocks.0.x denoiser:|pos_embed"},
        {"double_blocks.0.x img_in.weight", "denoiser:|double_blocks.0.x denoiser:|img_in.weight"},
        {"transformer_blocks.0.x proj_in.weight",
         "denoiser:|proj_in.weight denoiser:|transformer_blocks.0.x"},
        {"whatever.weight", "denoiser:|whatever.weight"},
        {"pos_embed first_stage_model.x text_encoders.clip_l.logit_scale",
         "denoiser:|pos_embed vae:first_stage_model.|x other:|text_encoders.clip_l.logit_scale"},
        {"joint_blocks.0.x decoder.y", "denoiser:|decoder.y denoiser:|joint_blocks.0.x"},
    };

    for (size_t i = 0; i < COUNT(models); i++)
        check_list(&(oct_model_paths){.model = put_model("bare", models[i].names)}, models[i].want);
}

static void an_unprefixed_encoder_or_vae_is_recognised(void)
{
    static const struct {
        const char *names, *want;
    } models[] = {
        {"text_model.a logit_scale", "clip-l:|logit_scale clip-l:|text_model.a"},
        {"text_model.encoder.layers.30.x", "clip-g:|text_model.encoder.layers.30.x"},
        {"encoder.block.0.x shared.weight", "t5:|encoder.block.0.x t5:|shared.weight"},
        {"decoder.conv_in.weight", "vae:|decoder.conv_in.weight"},
    };

    for (size_t i = 0; i < COUNT(models); i++)
        check_list(&(oct_model_paths){.model = put_model("bare", models[i].names)}, models[i].want);
}

static void an_empty_file_has_no_component(void)
{
    oct_checkpoint ckpt;
    oct_err err = {0};

    CHECK(oct_checkpoint_open(&ckpt, &(oct_model_paths){.model = put_model("empty", "")}, &err) ==
          OCT_OK);
    CHECK(ckpt.n_tensors == 0 && ckpt.n_files == 1);
    CHECK(!oct_checkpoint_has(&ckpt, OCT_DENOISER));
    CHECK(!oct_checkpoint_find(&ckpt, OCT_DENOISER, "x"));
    oct_checkpoint_close(&ckpt);
}

static void tensors_are_found_by_component_and_name(void)
{
    const char *model =
        put_model("find", "model.diffusion_model.x first_stage_model.x first_stage_model.z");
    oct_checkpoint ckpt;
    oct_err err = {0};

    CHECK(oct_checkpoint_open(&ckpt, &(oct_model_paths){.model = model}, &err) == OCT_OK);
    const oct_ckpt_tensor *x = oct_checkpoint_find(&ckpt, OCT_VAE, "x");
    CHECK(x && x->component == OCT_VAE && x->file == &ckpt.files[0]);
    CHECK(oct_checkpoint_find(&ckpt, OCT_VAE, "z"));
    CHECK(!oct_checkpoint_find(&ckpt, OCT_VAE, "y") && !oct_checkpoint_find(&ckpt, OCT_T5, "x"));
    CHECK(!oct_checkpoint_find(&ckpt, OCT_DENOISER, "z"));
    CHECK(oct_checkpoint_has(&ckpt, OCT_DENOISER) && oct_checkpoint_has(&ckpt, OCT_VAE));
    CHECK(!oct_checkpoint_has(&ckpt, OCT_CLIP_L) && !oct_checkpoint_has(&ckpt, OCT_OTHER));
    CHECK(!ckpt.is_diffusers && !oct_checkpoint_config(&ckpt, OCT_VAE));
    oct_checkpoint_close(&ckpt);
}

static void one_name_under_two_prefixes_is_refused(void)
{
    const char *model = put_model("two", "vae.x first_stage_model.x");
    check_refused(&(oct_model_paths){.model = model}, OCT_EFORMAT,
                  "tensors 'first_stage_model.x' and 'vae.x' are the same of the vae");
}

static void nothing_given_is_wrong_usage(void)
{
    check_refused(&(oct_model_paths){0}, OCT_EUSAGE, "no model file is given");
    check_refused(&(oct_model_paths){.model = at("absent")}, OCT_EIO, "absent' does not exist");
}

// --- separate files ---

static void separate_files_lie_beside_a_model(void)
{
    const oct_model_paths paths = {
        .model = put_model("model", "pos_embed"),
        .clip_l = put_model("clip_l", "text_model.a logit_scale"),
        .clip_g = put_model("clip_g", "text_model.b text_projection.weight"),
        .t5 = put_model("t5", "shared.weight encoder.embed_tokens.weight encoder.block.0.x"),
        .vae = put_model("vae", "decoder.x encoder.y"),
    };
    oct_checkpoint ckpt;
    oct_err err = {0};

    check_list(&paths, "denoiser:|pos_embed vae:|decoder.x vae:|encoder.y "
                       "clip-l:|logit_scale clip-l:|text_model.a "
                       "clip-g:|text_model.b clip-g:|text_projection.weight "
                       "t5:|encoder.block.0.x t5:|encoder.embed_tokens.weight t5:|shared.weight");
    CHECK(oct_checkpoint_open(&ckpt, &paths, &err) == OCT_OK);
    CHECK(ckpt.n_files == 5);
    CHECK_TEXT(ckpt.files[0].file.path, paths.model);
    oct_checkpoint_close(&ckpt);
}

static void separate_files_may_have_prefixes(void)
{
    static const struct {
        const char *names, *want;
    } vaes[] = {
        {"first_stage_model.decoder.x", "vae:first_stage_model.|decoder.x"},
        {"vae.decoder.x loose", "vae:vae.|decoder.x other:|loose"},
        {"decoder.x", "vae:|decoder.x"},
        {"first_stage_model.x model.diffusion_model.y text_encoders.clip_l.transformer.z",
         "vae:first_stage_model.|x"},
    };

    for (size_t i = 0; i < COUNT(vaes); i++)
        check_list(&(oct_model_paths){.vae = put_model("vae", vaes[i].names)}, vaes[i].want);
    check_list(&(oct_model_paths){.t5 = put_model("t5", "text_encoders.t5xxl.transformer.a "
                                                        "text_encoders.t5xxl.logit_scale")},
               "t5:text_encoders.t5xxl.transformer.|a other:|text_encoders.t5xxl.logit_scale");
    // The rest of two files may have equal names: nobody uses it.
    check_list(
        &(oct_model_paths){.vae = put_model("vae", "vae.x loose"),
                           .clip_l = put_model("l", "text_encoders.clip_l.transformer.a loose")},
        "vae:vae.|x clip-l:text_encoders.clip_l.transformer.|a other:|loose other:|loose");
}

static void a_separate_file_replaces_a_whole_component(void)
{
    const oct_model_paths paths = {
        .model = put_model("model", "model.diffusion_model.x text_encoders.clip_l.transformer.a "
                                    "text_encoders.clip_l.transformer.b first_stage_model.v"),
        .clip_l = put_model("clip_l", "text_model.a"),
    };
    check_list(&paths, "denoiser:model.diffusion_model.|x vae:first_stage_model.|v "
                       "clip-l:|text_model.a");
}

static void a_separate_file_of_another_component_is_refused(void)
{
    const char *clip_g = put_model("clip_g", "text_model.encoder.layers.30.x");
    const char *t5 = put_model("t5", "encoder.block.0.x"), *vae = put_model("vae", "decoder.x");

    check_refused(&(oct_model_paths){.clip_l = clip_g}, OCT_EFORMAT, "clip_g' holds no clip-l");
    check_refused(&(oct_model_paths){.clip_g = t5}, OCT_EFORMAT, "t5' holds no clip-g");
    check_refused(&(oct_model_paths){.vae = t5}, OCT_EFORMAT, "t5' holds no vae");
    check_refused(&(oct_model_paths){.t5 = vae}, OCT_EFORMAT, "vae' holds no t5");
    check_refused(&(oct_model_paths){.t5 = put_model("m", "model.diffusion_model.x")}, OCT_EFORMAT,
                  "m' holds no t5");
}

// --- diffusers folders ---

#define PART(name, library, class) "\"" name "\":[\"" library "\",\"" class "\"]"

// clang-format off
static const char whole_index[] =
    "{\"_class_name\":\"StableDiffusion3Pipeline\",\"_diffusers_version\":\"0.30\","
    "\"feature_extractor\":[null,null],\"scheduler\":[\"diffusers\",\"X\"],"
    PART("transformer", "diffusers", "SD3Transformer2DModel") ","
    PART("vae", "diffusers", "AutoencoderKL") ","
    PART("text_encoder", "transformers", "CLIPTextModelWithProjection") ","
    PART("text_encoder_2", "transformers", "CLIPTextModelWithProjection") ","
    PART("text_encoder_3", "transformers", "T5EncoderModel") "}";
// clang-format on

// Split transformer, all else in one file each.
static const char *make_pipeline(const char *name)
{
    static const char *const folders[] = {"transformer", "vae", "text_encoder", "text_encoder_2",
                                          "text_encoder_3"};
    const char *root = make_folder(name);

    for (size_t i = 0; i < COUNT(folders); i++)
        make_folder(oct_arena_print(&arena, "%s/%s", name, folders[i]));
    put_text(oct_arena_print(&arena, "%s/model_index.json", name), whole_index);
    put_text(oct_arena_print(&arena, "%s/vae/config.json", name), "{}");
    put_model(oct_arena_print(&arena, "%s/vae/diffusion_pytorch_model.safetensors", name), "v");
    put_model(oct_arena_print(&arena, "%s/text_encoder/model.safetensors", name), "text_model.l");
    put_model(oct_arena_print(&arena, "%s/text_encoder_2/model.safetensors", name), "text_model.g");
    put_model(oct_arena_print(&arena, "%s/text_encoder_3/model.safetensors", name),
              "shared.weight");
    put_model(oct_arena_print(&arena, "%s/transformer/s-1.safetensors", name),
              "b transformer_blocks.0");
    put_model(oct_arena_print(&arena, "%s/transformer/s-2.safetensors", name), "a");
    put_text(oct_arena_print(&arena,
                             "%s/transformer/diffusion_pytorch_model.safetensors.index.json", name),
             "{\"metadata\":{\"total_size\":12,\"other\":[{}]},\"weight_map\":{"
             "\"a\":\"s-2.safetensors\",\"b\":\"s-1.safetensors\","
             "\"transformer_blocks.0\":\"s-1.safetensors\"}}");
    return root;
}

static void a_diffusers_folder_is_read_whole(void)
{
    const oct_model_paths paths = {.model = make_pipeline("sd3")};
    oct_checkpoint ckpt;
    oct_err err = {0};

    check_list(&paths, "denoiser:|a denoiser:|b denoiser:|transformer_blocks.0 vae:|v "
                       "clip-l:|text_model.l clip-g:|text_model.g t5:|shared.weight");
    CHECK(oct_checkpoint_open(&ckpt, &paths, &err) == OCT_OK);
    CHECK(ckpt.is_diffusers && ckpt.n_files == 6);
    CHECK_TEXT(ckpt.folder, paths.model);
    CHECK_TEXT(ckpt.files[0].file.path, at("sd3/transformer/s-1.safetensors"));
    CHECK_TEXT(oct_checkpoint_config(&ckpt, OCT_VAE), at("sd3/vae/config.json"));
    CHECK(!oct_checkpoint_config(&ckpt, OCT_DENOISER));
    CHECK(!oct_checkpoint_config(&ckpt, OCT_OTHER));
    oct_checkpoint_close(&ckpt);
}

static void a_separate_file_spares_the_one_in_the_folder(void)
{
    const char *model = make_pipeline("spare");

    unlink(at("spare/text_encoder_3/model.safetensors"));
    check_refused(&(oct_model_paths){.model = model}, OCT_EIO,
                  "spare/text_encoder_3' has no 'model.safetensors'");
    check_list(&(oct_model_paths){.model = model,
                                  .t5 = put_model("t5", "encoder.block.0.x"),
                                  .vae = put_model("vae", "decoder.x")},
               "denoiser:|a denoiser:|b denoiser:|transformer_blocks.0 vae:|decoder.x "
               "clip-l:|text_model.l clip-g:|text_model.g t5:|encoder.block.0.x");
}

static void unsuffixed_files_are_preferred_to_the_variant(void)
{
    const char *model = make_folder("variant");
    const oct_model_paths paths = {.model = model};

    put_text("variant/model_index.json", "{" PART("vae", "diffusers", "AutoencoderKL") "}");
    make_folder("variant/vae");
    put_model("variant/vae/x.safetensors", "index.fp16");
    put_text("variant/vae/diffusion_pytorch_model.safetensors.index.fp16.json",
             "{\"weight_map\":{\"index.fp16\":\"x.safetensors\"}}");
    check_list(&paths, "vae:|index.fp16");
    put_model("variant/vae/diffusion_pytorch_model.fp16.safetensors", "fp16");
    check_list(&paths, "vae:|fp16");
    put_text("variant/vae/diffusion_pytorch_model.safetensors.index.json",
             "{\"weight_map\":{\"index\":\"y.safetensors\"}}");
    put_model("variant/vae/y.safetensors", "index");
    check_list(&paths, "vae:|index");
    put_model("variant/vae/diffusion_pytorch_model.safetensors", "plain");
    check_list(&paths, "vae:|plain");
}

static void components_follow_the_model_index(void)
{
    static const struct {
        const char *text;
        oct_status status;
        const char *want;
    } indexes[] = {
        // clang-format off
        {"{\"transformer\":[null,null],\"vae\":[null,null],"
         PART("text_encoder_2", "transformers", "T5EncoderModel") "}", OCT_OK, "t5:|x"},
        {"{" PART("text_encoder_2", "transformers", "CLIPTextModel") "}", OCT_OK, "clip-g:|x"},
        {"{" PART("text_encoder_2", "t", "T5EncoderModel") ","
         PART("text_encoder_3", "t", "T5EncoderModel") "}",
         OCT_EFORMAT, "'text_encoder_3' is a second t5"},
        {"{\"vae\":[null]}", OCT_EFORMAT, "'vae' must be [library, class] or [null, null]"},
        {"{\"vae\":[null,\"x\"]}", OCT_EFORMAT, "'vae' must be [library, class]"},
        {"{\"vae\":\"x\"}", OCT_EFORMAT, "'vae' must be [library, class]"},
        {"{\"vae\":[null,null],\"vae\":[null,null]}", OCT_EFORMAT, "duplicate key 'vae'"},
        {"[]", OCT_EFORMAT, "the root must be an object"},
        {"{", OCT_EFORMAT, "model_index.json': JSON"},
        {"{" PART("vae", "diffusers", "AutoencoderKL") "}", OCT_EIO, "has no 'diffusion_pytorch_"},
        {"{\"vae\":[null,null]}", OCT_EFORMAT, "names no component"},
        // clang-format on
    };
    const char *model = make_folder("parts");

    check_refused(&(oct_model_paths){.model = model}, OCT_EIO, "model_index.json' does not exist");
    make_folder("parts/text_encoder_2");
    put_model("parts/text_encoder_2/model.safetensors", "x");
    for (size_t i = 0; i < COUNT(indexes); i++) {
        put_text("parts/model_index.json", indexes[i].text);
        if (indexes[i].status)
            check_refused(&(oct_model_paths){.model = model}, indexes[i].status, indexes[i].want);
        else
            check_list(&(oct_model_paths){.model = model}, indexes[i].want);
    }
}

// --- index files ---

static void index_texts_have_their_verdict(void)
{
    static const struct {
        const char *text;
        size_t bytes;
        const char *want;
    } texts[] = {
#define I(text, want) {text, sizeof(text) - 1, want}
#define SHARD(name) "{\"weight_map\":{\"t\":\"" name "\"}}"
        I(SHARD("a.safetensors"), NULL),
        I(SHARD(" -rf %s.safetensors"), NULL),
        I("{\"x\":{\"y\":[1]},\"weight_map\":{\"t\":\"a.safetensors\"},\"z\":null}", NULL),
        I("{\"metadata\":{\"total_size\":18446744073709551615},\"weight_map\":{\"t\":\"a."
          "safetensors\"}}",
          NULL),
        I(SHARD("../x.safetensors"), "is a path"),
        I(SHARD("/etc/x.safetensors"), "is a path"),
        I(SHARD("a/../../x.safetensors"), "is a path"),
        I(SHARD("a/x.safetensors"), "is a path"),
        I(SHARD("a\\\\..\\\\x.safetensors"), "is a path"),
        I(SHARD(""), "is empty"),
        I(SHARD("."), "does not end in '.safetensors'"),
        I(SHARD(".."), "does not end in '.safetensors'"),
        I(SHARD(".safetensors"), "does not end in '.safetensors'"),
        I(SHARD("a.safetensors\\u0000"), "is a path"),
        I(SHARD("a\\u0000.safetensors"), "is a path"),
        I(SHARD("a\\n.safetensors"), "is a path"),
        I(SHARD("i.json"), "does not end in '.safetensors'"),
        I(SHARD("a.safetensors.index.json"), "does not end in '.safetensors'"),
        I(SHARD("a.bin"), "does not end in '.safetensors'"),
        I("{\"weight_map\":{\"t\":1}}", "weight_map: tensor 't': JSON: expected a string"),
        I("{\"weight_map\":{\"t\":[\"a.safetensors\"]}}", "expected a string"),
        I("{\"weight_map\":{\"t\\u0000\":\"a.safetensors\"}}", "U+0000"),
        I("{\"weight_map\":{\"t\":\"a.safetensors\",\"\\u0074\":\"a.safetensors\"}}",
          "duplicate tensor 't'"),
        I("{\"weight_map\":{},\"weight_map\":{}}", "duplicate key 'weight_map'"),
        I("{\"metadata\":{},\"metadata\":{}}", "duplicate key 'metadata'"),
        I("{\"metadata\":{\"total_size\":1,\"total_size\":1}}", "duplicate key 'total_size'"),
        I("{\"metadata\":{\"total_size\":1.5}}", "total_size is not a whole number"),
        I("{\"metadata\":{\"total_size\":-1}}", "total_size is not a whole number"),
        I("{\"metadata\":{\"total_size\":\"1\"}}", "total_size is not a whole number"),
        I("{\"metadata\":[]}", "metadata: JSON: expected an object"),
        I("{\"weight_map\":[]}", "weight_map: JSON: expected an object"),
        I("{\"weight_map\":{}}", "weight_map is missing or empty"),
        I("{}", "weight_map is missing or empty"),
        I("[]", "JSON: expected an object"),
        I("", "JSON"),
        I(SHARD("a.safetensors") "x", "JSON"),
#undef SHARD
#undef I
    };

    for (size_t i = 0; i < COUNT(texts); i++) {
        oct_arena own = {0};
        oct_shard_index index;
        oct_err err = {0};
        const oct_status st =
            oct_shard_index_parse(&index, &own, texts[i].text, texts[i].bytes, &err);
        const bool is_good =
            texts[i].want ? st == OCT_EFORMAT && strstr(err.text, texts[i].want) : st == OCT_OK;
        CHECK(is_good);
        if (!is_good) printf("# %s: %d %s\n", texts[i].text, st, err.text);
        oct_arena_deinit(&own);
    }
}

static void the_number_of_shards_has_a_limit(void)
{
    static const size_t counts[] = {OCT_SHARDS_MAX, OCT_SHARDS_MAX + 1, 150000, 200001};

    for (size_t i = 0; i < COUNT(counts); i++) {
        oct_arena own = {0};
        oct_shard_index index;
        oct_err err = {0};
        char *text = NULL;
        size_t bytes = 0;
        FILE *out = open_memstream(&text, &bytes);
        fputs("{\"weight_map\":{", out);
        for (size_t k = 0; k < counts[i]; k++)
            fprintf(out, "%s\"%zu\":\"%zu.safetensors\"", k ? "," : "", k, k);
        fputs("}}", out);
        fclose(out);
        const oct_status st = oct_shard_index_parse(&index, &own, text, bytes, &err);
        CHECK(st == (i == 0 ? OCT_OK : OCT_EFORMAT));
        CHECK(i == 0 || strstr(err.text, "limit"));
        CHECK(i > 0 || (index.n_shards == OCT_SHARDS_MAX && index.n_entries == OCT_SHARDS_MAX));
        oct_arena_deinit(&own);
        free(text);
    }
}

// A name in the Hugging Face cache.
#define BLOB "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void index_and_shards_must_agree(void)
{
    static const struct {
        const char *text, *want;
    } indexes[] = {
        {"{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"1.safetensors\","
         "\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
         NULL},
        {"{\"metadata\":{\"total_size\":11},\"weight_map\":{\"a\":\"1.safetensors\","
         "\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
         "total_size is 11, the shards hold 12 bytes"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}"
         "}",
         "tensor 'b' is missing in shard '2.safetensors'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\","
         "\"d\":\"2.safetensors\"}}",
         "tensor 'd' is missing in shard '2.safetensors'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
         "shard '1.safetensors' has an extra tensor 'b'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"3.safetensors\"}"
         "}",
         "tensor 'a' is in shard '3.safetensors', the index says '1.safetensors'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"4.safetensors\"}"
         "}",
         "4.safetensors' does not exist"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"5.safetensors\"}"
         "}",
         "5.safetensors' is a symbolic link"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"8.safetensors\"}"
         "}",
         NULL},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"9.safetensors\"}"
         "}",
         "9.safetensors' is a symbolic link"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"6.safetensors\"}"
         "}",
         "6.safetensors' is a folder"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"7.safetensors\"}"
         "}",
         "7.safetensors': is a JSON file"},
    };
    static const char index_name[] = "agree/vae/diffusion_pytorch_model.safetensors.index.json";
    const char *model = make_folder("agree");

    make_folder("agree/vae");
    put_text("agree/model_index.json", "{" PART("vae", "diffusers", "AutoencoderKL") "}");
    put_model("agree/vae/1.safetensors", "a b");
    put_model("agree/vae/2.safetensors", "c");
    put_model("agree/vae/3.safetensors", "a c");
    CHECK(symlink("2.safetensors", at("agree/vae/5.safetensors")) == 0);
    make_folder("agree/blobs");
    put_model("agree/blobs/" BLOB, "c");
    CHECK(symlink("../blobs/" BLOB, at("agree/vae/8.safetensors")) == 0);
    CHECK(symlink("../blobs/" BLOB ".incomplete", at("agree/vae/9.safetensors")) == 0);
    make_folder("agree/vae/6.safetensors");
    put_text("agree/vae/7.safetensors", "{\"weight_map\":{\"a\":\"7.safetensors\"}}");
    for (size_t i = 0; i < COUNT(indexes); i++) {
        const oct_model_paths paths = {.model = model};
        put_text(index_name, indexes[i].text);
        oct_checkpoint ckpt;
        oct_err err = {0};
        const oct_status st = oct_checkpoint_open(&ckpt, &paths, &err);
        const bool is_good = indexes[i].want ? st && strstr(err.text, indexes[i].want) &&
                                                   strstr(err.text, at(index_name))
                                             : st == OCT_OK && ckpt.n_tensors == 3;
        CHECK(is_good);
        if (!is_good) printf("# %s: %d %s\n", indexes[i].text, st, err.text);
        oct_checkpoint_close(&ckpt);
    }
}

int main(void)
{
    scratch = oct_scratch_make();

    RUN(a_prefixed_single_file_is_split_by_prefix);
    RUN(an_all_in_one_file_has_every_component);
    RUN(an_unprefixed_model_is_a_denoiser);
    RUN(an_unprefixed_encoder_or_vae_is_recognised);
    RUN(an_empty_file_has_no_component);
    RUN(tensors_are_found_by_component_and_name);
    RUN(one_name_under_two_prefixes_is_refused);
    RUN(nothing_given_is_wrong_usage);
    RUN(separate_files_lie_beside_a_model);
    RUN(separate_files_may_have_prefixes);
    RUN(a_separate_file_replaces_a_whole_component);
    RUN(a_separate_file_of_another_component_is_refused);
    RUN(a_diffusers_folder_is_read_whole);
    RUN(a_separate_file_spares_the_one_in_the_folder);
    RUN(unsuffixed_files_are_preferred_to_the_variant);
    RUN(components_follow_the_model_index);
    RUN(index_texts_have_their_verdict);
    RUN(the_number_of_shards_has_a_limit);
    RUN(index_and_shards_must_agree);

    oct_scratch_remove(scratch);
    oct_arena_deinit(&arena);
    return test_end();
}
