/**
 * What a layer does in its model. Models state the role of each layer; adapter methods ask for roles, so that neither knows the other.
 */
export type Role =
  | 'attention'
  | 'attention.query'
  | 'attention.key'
  | 'attention.value'
  | 'attention.qkv'
  | 'attention.output'
  | 'mlp'
  | 'mlp.gate'
  | 'mlp.up'
  | 'mlp.down'
  | 'block'
  | 'block.output'
  | 'embedding'
  | 'norm'
  | 'conv'
  | 'head';
