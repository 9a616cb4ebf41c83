"""The operations that the three programs send: frontend, editor and tooling."""

IMAGE = """
fragment ImageFields on Image {
  id version origin isAiGenerated filename title altText tags isFavorite mimeType byteSize sha256
  width height orientation dominantColor thumbhash url createdAt updatedAt
}
"""

UPLOAD = (
    """
mutation Upload($input: UploadImageInput!) {
  uploadImage(input: $input) {
    image { ...ImageFields }
    duplicateOf { id }
    errors { __typename ... on UserError { code message path }
             ... on InvalidInputError { limit actual } }
  }
}
"""
    + IMAGE
)

IMAGES = """
query Images($filter: ImageFilter, $search: String, $sort: ImageSort, $first: Int, $after: String,
             $last: Int, $before: String) {
  images(filter: $filter, search: $search, sort: $sort, first: $first, after: $after,
         last: $last, before: $before) {
    totalCount
    nodes { id filename }
    edges { cursor node { id } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""

RENDITION = """
query Rendition($id: ID!, $width: Int!, $format: ImageFormat! = AUTO) {
  image(id: $id) { url rendition(width: $width, format: $format) { url width height mimeType } }
}
"""

GENERATE = """
mutation Generate($input: GenerateImageInput!) {
  generateImage(input: $input) {
    generation { id status provider prompt requestedCount width height sequence }
    errors { __typename ... on UserError { code message path } }
  }
}
"""

GENERATION = """
query Generation($id: ID!) {
  generation(id: $id) {
    status progress stage sequence attempts failure { code message retryable }
    images { id origin isAiGenerated width height url generation { id prompt } }
  }
}
"""

CANCEL = """
mutation Cancel($id: ID!) {
  cancelGeneration(id: $id) { generation { id status } errors { ... on UserError { code } } }
}
"""

PROGRESS = """
subscription Progress($id: ID!, $after: Int) {
  generationProgress(id: $id, afterSequence: $after) {
    __typename sequence at generation { status images { id } }
    ... on GenerationProgressed { progress stage previewUrl }
    ... on GenerationImageReady { image { id url } }
    ... on GenerationFinished { status failure { code message } }
  }
}
"""

CONTENT = """
fragment ContentFields on Content {
  id externalId text platforms state version
  attachments { id position altTextOverride image { id } }
}
"""

SAVE_CONTENT = (
    """
mutation SaveContent($input: SaveContentInput!) {
  saveContent(input: $input) {
    content { ...ContentFields } errors { __typename ... on UserError { code message path } }
  }
}
"""
    + CONTENT
)

ATTACH = (
    """
mutation Attach($input: AttachToContentInput!) {
  attachToContent(input: $input) {
    content { ...ContentFields } errors { __typename ... on UserError { code message } }
  }
}
"""
    + CONTENT
)

DETACH = (
    """
mutation Detach($ids: [ID!]!) {
  detachFromContent(attachmentIds: $ids) {
    content { ...ContentFields } errors { __typename ... on UserError { code message } }
  }
}
"""
    + CONTENT
)

REORDER = (
    """
mutation Reorder($id: ID!, $ids: [ID!]!) {
  reorderAttachments(contentId: $id, attachmentIds: $ids) {
    content { ...ContentFields } errors { __typename ... on UserError { code message } }
  }
}
"""
    + CONTENT
)

READ_CONTENT = (
    """
query Content($id: ID, $externalId: String) {
  content(id: $id, externalId: $externalId) { ...ContentFields }
}
"""
    + CONTENT
)

UPDATE = """
mutation Update($id: ID!, $version: Int, $patch: UpdateImageInput!) {
  updateImage(id: $id, expectedVersion: $version, patch: $patch) {
    image { id version title altText tags isFavorite }
    errors { __typename ... on UserError { code message } }
  }
}
"""

DELETE = """
mutation Delete($id: ID!, $force: Boolean! = false) {
  deleteImage(id: $id, force: $force) {
    deletedImageId
    errors { __typename ... on UserError { code message }
             ... on ImageInUseError { usages { id content { externalId } } } }
  }
}
"""

IMAGES_WITH_URLS = """
query Images($filter: ImageFilter) {
  images(filter: $filter, first: 100) { totalCount nodes { id sha256 url } }
}
"""

CREATE_UPLOAD = """
mutation CreateUpload($input: CreateUploadInput!) {
  createUpload(input: $input) {
    uploadId
    target { method url headers { name value } expiresAt }
    errors { __typename ... on UserError { code message path } }
  }
}
"""

COMPLETE_UPLOAD = (
    """
mutation CompleteUpload($id: ID!) {
  completeUpload(id: $id) {
    image { ...ImageFields }
    duplicateOf { id }
    errors { __typename ... on UserError { code message } }
  }
}
"""
    + IMAGE
)

IMPORT = (
    """
mutation Import($input: ImportImageInput!) {
  importImage(input: $input) {
    image { ...ImageFields }
    duplicateOf { id }
    errors { __typename ... on UserError { code message path } }
  }
}
"""
    + IMAGE
)

DELETE_MANY = """
mutation DeleteMany($ids: [ID!]!, $force: Boolean! = false, $dryRun: Boolean! = false) {
  deleteImages(ids: $ids, force: $force, dryRun: $dryRun) {
    results { id deleted usages { content { externalId } } image { id deletedAt url }
              error { __typename ... on UserError { code message } } }
    errors { __typename ... on UserError { code message } }
  }
}
"""

RESTORE = """
mutation Restore($ids: [ID!]!) {
  restoreImages(ids: $ids) {
    results { id image { id deletedAt url } error { __typename ... on UserError { code message } } }
    errors { ... on UserError { code message } }
  }
}
"""

PURGE = """
mutation Purge($ids: [ID!]!) {
  purgeImages(ids: $ids) {
    results { id deleted image { id } error { __typename ... on UserError { code message } } }
    errors { ... on UserError { code message } }
  }
}
"""

VERSIONS = """
query Versions($id: ID!) {
  image(id: $id) { id version url width versions { sha256 width url replacedAt } }
}
"""

REPLACE = """
mutation Replace($id: ID!, $file: Upload!, $version: Int) {
  replaceImage(id: $id, file: $file, expectedVersion: $version) {
    image { id version width filename url }
    errors { __typename ... on UserError { code message } }
  }
}
"""

RECIPE = """
fragment RecipeFields on Generation {
  id status provider model prompt revisedPrompt negativePrompt requestedCount width height quality
  background style seed notice estimatedCost actualCost calls attempts progress
  failure { code message remedy retryable retryAfterSeconds }
  retryOf { id } references { id }
  images { id origin isAiGenerated width height mimeType url generation { id } parent { id } }
}
"""

WISH = (
    """
mutation Wish($input: GenerateImageInput!) {
  generateImage(input: $input) {
    generation { ...RecipeFields }
    notices
    errors { __typename ... on UserError { code message path }
             ... on BudgetExceededError { remaining estimated } }
  }
}
"""
    + RECIPE
)

RETRY = (
    """
mutation Retry($id: ID!, $again: String) {
  retryGeneration(id: $id, idempotencyKey: $again) {
    generation { ...RecipeFields }
    notices
    errors { __typename ... on UserError { code message path } }
  }
}
"""
    + RECIPE
)

RECIPE_OF = (
    """
query RecipeOf($id: ID!) { generation(id: $id) { ...RecipeFields } }
"""
    + RECIPE
)

PREVIEW_OF = """
query PreviewOf($id: ID!) { generation(id: $id) { previewUrl } }
"""

ESTIMATE = """
query Estimate($input: GenerateImageInput!) {
  estimateGeneration(input: $input) {
    provider model prompt count width height estimated remainingBudget expectedSeconds notices
  }
}
"""

PROVIDERS = """
query Providers {
  providers {
    name available unavailableReason isDefault makesAiImages
    models { name isDefault maxCount streamsPreviews supportsMask pricePerImage shutdownDate }
  }
}
"""

LEDGER = """
query Ledger($after: String) {
  ledger(first: 100, after: $after) { nodes { viewer state estimated actual generation { id } } }
  budgets {
    workspace { spent reserved budget remaining }
    viewer { spent reserved }
  }
}
"""

FILES = """
query Files($id: ID!) {
  image(id: $id) {
    url mimeType
    jpeg: rendition(width: 100, format: JPEG) { url }
    png: rendition(width: 100, format: PNG) { url }
    webp: rendition(width: 100, format: WEBP) { url }
    avif: rendition(width: 100, format: AVIF) { url }
  }
}
"""

LIBRARY_CHANGED = """
subscription LibraryChanged {
  libraryChanged {
    __typename at
    ... on ImageAdded { image { id title } }
    ... on ImageChanged { image { id title } }
    ... on ImageDeleted { imageId }
  }
}
"""
