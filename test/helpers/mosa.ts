import type { AdapterConfig, MosaStyle } from 'lorikeet';

export const mosaStyles: readonly MosaStyle[] = ['adaptformer', 'pfeiffer', 'houlsby', 'swin', 'lora'];

/** A small MoSA whose branches are whole in every expert. */
export const mosaConfig = (style: MosaStyle, more: object = {}): AdapterConfig => ({
  type: 'mosa',
  style,
  bottleneckSize: 8,
  share: 'none',
  ...more,
});
