"""One recipe in both dialects of MMSegmentation's configs, with every section that they have."""

NEW = """
crop_size = (32, 64)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=crop_size, test_cfg=None),
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(type='ResNetV1c', depth=18, norm_cfg=norm_cfg, init_cfg=dict(type='Kaiming')),
    decode_head=dict(
        type='PSPHead', in_channels=512, in_index=3, channels=8, num_classes=3, norm_cfg=norm_cfg,
        loss_decode=[dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5])]),
    auxiliary_head=dict(
        type='FCNHead', in_channels=256, in_index=2, channels=8, num_classes=3, num_convs=1, norm_cfg=norm_cfg,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(20, 20)))
metainfo = dict(classes=('sky', 'road', 'car'), palette=[[0, 0, 255], [128, 128, 128], [255, 0, 0]])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(64, 32), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 32), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset', data_root='data/streets', metainfo=metainfo, img_suffix='.png',
        data_prefix=dict(img_path='img/train', seg_map_path='ann/train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset', data_root='data/streets', metainfo=metainfo, img_suffix='.png', ann_file='val.txt',
        data_prefix=dict(img_path='img/val', seg_map_path='ann/val'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005),
    paramwise_cfg=dict(custom_keys={'backbone.layer1': dict(lr_mult=0.1, decay_mult=0.0)}, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=1, norm_type=2))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=100, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100, val_interval=20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=50, max_keep_ckpts=3, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
randomness = dict(seed=7)
default_scope = 'mmseg'
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
tta_model = dict(type='SegTTAModel')
tta_pipeline = [dict(type='LoadImageFromFile')]
auto_scale_lr = dict(enable=False, base_batch_size=8)
"""

OLD = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(type='ResNetV1c', depth=18, norm_cfg=norm_cfg),
    decode_head=dict(
        type='PSPHead', in_channels=512, in_index=3, channels=8, num_classes=3, norm_cfg=norm_cfg,
        loss_decode=[dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5])]),
    auxiliary_head=dict(
        type='FCNHead', in_channels=256, in_index=2, channels=8, num_classes=3, num_convs=1, norm_cfg=norm_cfg,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=32, stride=(20, 20)))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
crop_size = (32, 64)
classes = ('sky', 'road', 'car')
palette = [[0, 0, 255], [128, 128, 128], [255, 0, 0]]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', img_scale=(64, 32), ratio_range=(0.5, 2.0)),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size=crop_size, pad_val=0, seg_pad_val=255),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=(64, 32), flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ])
]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=4,
    train=dict(
        type='CustomDataset', data_root='data/streets', classes=classes, palette=palette, img_suffix='.png',
        img_dir='img/train', ann_dir='ann/train', pipeline=train_pipeline),
    val=dict(
        type='CustomDataset', data_root='data/streets', classes=classes, palette=palette, img_suffix='.png',
        img_dir='img/val', ann_dir='ann/val', split='val.txt', pipeline=test_pipeline),
    test=dict(
        type='CustomDataset', data_root='data/streets', classes=classes, palette=palette, img_suffix='.png',
        img_dir='img/val', ann_dir='ann/val', split='val.txt', pipeline=test_pipeline))
optimizer = dict(
    type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005,
    paramwise_cfg=dict(custom_keys={'backbone.layer1': dict(lr_mult=0.1, decay_mult=0.0)}, norm_decay_mult=0.0))
optimizer_config = dict(grad_clip=dict(max_norm=1, norm_type=2))
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=100)
checkpoint_config = dict(by_epoch=False, interval=50, max_keep_ckpts=3)
evaluation = dict(interval=20, metric='mIoU', pre_eval=True, save_best='mIoU')
log_config = dict(interval=10, hooks=[dict(type='TextLoggerHook', by_epoch=False)])
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]
cudnn_benchmark = True
seed = 7
"""

DIALECTS = ("new", "old")
